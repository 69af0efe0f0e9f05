from __future__ import annotations

import pytest

from myctobot.stack.restart import STABLE_AFTER_S, GiveUp, Restart, decide_restart


@pytest.mark.parametrize(
    ("failed_starts", "lived_s", "give_up_after", "decision"),
    [
        (0, STABLE_AFTER_S, 5, Restart(0.5, 0)),
        (4, STABLE_AFTER_S, 5, Restart(0.5, 0)),
        (0, 0.1, 5, Restart(0.5, 1)),
        (1, 0.1, 5, Restart(1.0, 2)),
        (2, 0.1, 5, Restart(2.0, 3)),
        (3, 4.9, 5, Restart(4.0, 4)),
        (4, 0.1, 5, GiveUp(5)),
        # Without a number, the pauses grow to half a minute and no further.
        (4, 0.1, None, Restart(8.0, 5)),
        (6, 0.1, None, Restart(30.0, 7)),
        (100_000, 0.1, None, Restart(30.0, 100_001)),
    ],
)
def test_decision(failed_starts: int, lived_s: float, give_up_after: int | None, decision: Restart | GiveUp) -> None:
    assert decide_restart(failed_starts, lived_s, give_up_after) == decision
