"""Limits that cannot work together are refused, with the keys and what would be right."""

import pytest

from attpc_ioc.errors import SettingsError
from attpc_ioc.settings import parse_settings
from tests.unit.test_settings_faults import OK, faults_of

WHY = "or the last modules are never sent Stop if the first ones hang"
THREE_STAGES = '[order]\nstop = [["mutant"], ["cobo"], ["other"]]\n'
ONE_STAGE = '[order]\nstop = [["mutant", "cobo", "other"]]\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[limits]\nstop_s = 8.0",
            f"limits.stop_s must be at least 10.2 (limits.stop_mutant_s and 0.2 s), not 8, {WHY}",
        ),
        (
            "[limits]\nstop_mutant_s = 30.0",
            f"limits.stop_mutant_s must be at most 29.8, to fit into limits.stop_s (30), not 30, {WHY}",
        ),
        (
            f"{THREE_STAGES}[limits]\nstop_mutant_s = 20.0",
            "limits.stop_mutant_s must be at most 14.9, to fit for each of 2 stages into limits.stop_s (30), "
            f"not 20, {WHY}",
        ),
        (f"{ONE_STAGE}[limits]\nstop_s = 0.1", f"limits.stop_s must be at least 0.2, not 0.1, {WHY}"),
        (
            "[limits]\nfreshness_s = 0.005",
            "limits.freshness_s must be at least 0.01, not 0.005, or only Stop is ever sent: answers "
            "take longer",
        ),
    ],
)
def test_limits_that_can_never_work_are_refused(text: str, fault: str) -> None:
    assert faults_of(f"{text}\n{OK}") == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "[limits]\nstop_s = 10.3",
        "[limits]\nstop_mutant_s = 29.0",
        f"{THREE_STAGES}[limits]\nstop_mutant_s = 14.0",
        f"{ONE_STAGE}[limits]\nstop_s = 5.0",
        "[limits]\nfreshness_s = 5.0",
        "[limits]\nfreshness_s = 0.01\ndescribe_s = 0.1",
    ],
)
def test_limits_that_work_are_taken(text: str) -> None:
    try:
        parse_settings(f"{text}\n{OK}", "f.toml")
    except SettingsError as error:
        pytest.fail(str(error))
