from __future__ import annotations

import pytest

from myctobot.stack.restart import STABLE_AFTER_S, GiveUp, Restart, decide_restart


@pytest.mark.parametrize(
    ("failed_starts", "lived_s", "decision"),
    [
        (0, STABLE_AFTER_S, Restart(0.5, 0)),
        (4, STABLE_AFTER_S, Restart(0.5, 0)),
        (0, 0.1, Restart(0.5, 1)),
        (1, 0.1, Restart(1.0, 2)),
        (2, 0.1, Restart(2.0, 3)),
        (3, 4.9, Restart(4.0, 4)),
        (4, 0.1, GiveUp(5)),
    ],
)
def test_decision(failed_starts: int, lived_s: float, decision: Restart | GiveUp) -> None:
    assert decide_restart(failed_starts, lived_s) == decision
