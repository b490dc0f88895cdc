"""Hook specifications and the plugin host.

A plugin needs `hookimpl` and, for its annotations, `PluginContext`.
"""

from .contract import PluginContext
from .spec import hookimpl, hookspec

__all__ = ["PluginContext", "hookimpl", "hookspec"]
