"""Times in seconds and sizes in bytes that both sides of the wire keep."""

from __future__ import annotations

from typing import Final

# --- Times. The first four depend on each other: 10 < 40 < 60 < 90. ----------------------------------

RENEW_EVERY_S: Final = 10
# A runner without an answer for this long stops its agent.
SELF_STOP_S: Final = 40
LEASE_S: Final = 60
# The control plane gives up an attempt after this time, by the database's clock.
LOST_AFTER_S: Final = 90

HEARTBEAT_EVERY_S: Final = 5
# An attempt that no runner has claimed by then is withdrawn, and its number is invalidated.
CLAIM_DEADLINE_S: Final = 30

# --- Sizes ---------------------------------------------------------------------------------------------

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_BATCH_BYTES: Final = 256 * 1024
MAX_BATCH_EVENTS: Final = 500
MAX_PROMPT_BYTES: Final = 256 * 1024
MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_URL_LENGTH: Final = 2000
# In bytes of UTF-8, because file systems limit the bytes of a name.
MAX_BRANCH_LENGTH: Final = 200
MIN_SECRET_LENGTH: Final = 8
