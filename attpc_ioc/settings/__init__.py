"""Settings: one TOML file, checked as a whole before anything starts."""

from .load import load_settings, parse_settings
from .sections import (
    ChannelAccessSettings,
    EccSettings,
    IocSettings,
    LimitSettings,
    LinkSettings,
    OrderSettings,
    PollSettings,
    RunSettings,
    Section,
    Settings,
    SourceSettings,
    Stages,
    default_state_directory,
)

__all__ = [
    "ChannelAccessSettings",
    "EccSettings",
    "IocSettings",
    "LimitSettings",
    "LinkSettings",
    "OrderSettings",
    "PollSettings",
    "RunSettings",
    "Section",
    "Settings",
    "SourceSettings",
    "Stages",
    "default_state_directory",
    "load_settings",
    "parse_settings",
]
