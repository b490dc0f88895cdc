"""Hook specifications and the plugin host.

A plugin needs `hookimpl` and, for its annotations, `PluginContext`.
"""

from .spec import PluginContext, hookimpl, hookspec

__all__ = ["PluginContext", "hookimpl", "hookspec"]
