"""Command ``python -m workers.sandbox``, which tests whether this machine can isolate an agent.

The exit code is 0 if it can; otherwise 1, and standard error says why not. It also says where version 2 of the control
groups limits the agents' memory, or why it does not.
"""

from __future__ import annotations

import logging
import sys

from workers.config import FIRST_AGENT_UID
from workers.sandbox import own_group
from workers.sandbox.isolation import check
from workers.sandbox.sandbox import ResourceLimits, SandboxConfig


def main() -> int:
    """Test the sandbox and return the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    own_group.prepare()
    problem = check(SandboxConfig(limits=ResourceLimits(), agent_uid=FIRST_AGENT_UID))
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
