"""The SOAP client of ECC servers, and the poller."""

from .client import EccClient, Observation, load
from .messages import PartialConfig, config_id_xml, configs_in, data_link_set_xml, senders_in
from .poller import Poller

__all__ = [
    "EccClient",
    "Observation",
    "PartialConfig",
    "Poller",
    "config_id_xml",
    "configs_in",
    "data_link_set_xml",
    "load",
    "senders_in",
]
