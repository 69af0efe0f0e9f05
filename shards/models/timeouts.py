"""Times after which a silent shard is suspect, lost or steady again."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from myctobot.contract.limits import HEARTBEAT_EVERY_S, LOST_AFTER_S

# Three heartbeats: one may be lost and the next one late.
SILENT_AFTER: Final = timedelta(seconds=3 * HEARTBEAT_EVERY_S)

# The attempts on it are declared lost after the same time.
LOST_AFTER: Final = timedelta(seconds=LOST_AFTER_S)

STEADY_FOR: Final = timedelta(seconds=10)

# A shard that became suspect this often within this time has to be steady for longer.
FLAPPING_COUNT: Final = 3
FLAPPING_WITHIN: Final = timedelta(minutes=10)
FLAPPING_STEADY_FOR: Final = timedelta(seconds=60)
