"""Settings: one TOML file, checked as a whole before anything starts."""

from .channel_finder_section import ChannelFinderSettings
from .demo_place import demo_directory, demo_file, demo_hint
from .ecc_sections import EccSettings, LinkSettings, SourceSettings
from .load import load_settings, parse_settings
from .pva_section import PvaSettings
from .section import Section
from .sections import (
    AccessSettings,
    ChannelAccessSettings,
    IocSettings,
    LimitSettings,
    OrderSettings,
    PollSettings,
    RunSettings,
    Stages,
)
from .whole import Settings

__all__ = [
    "AccessSettings",
    "ChannelAccessSettings",
    "ChannelFinderSettings",
    "EccSettings",
    "IocSettings",
    "LimitSettings",
    "LinkSettings",
    "OrderSettings",
    "PollSettings",
    "PvaSettings",
    "RunSettings",
    "Section",
    "Settings",
    "SourceSettings",
    "Stages",
    "demo_directory",
    "demo_file",
    "demo_hint",
    "load_settings",
    "parse_settings",
]
