"""User numbers of agents, of which no two running jobs of a host have the same one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from myctobot.contract import file_locks
from workers.errors import JobError

# All shards of a host use this folder, because each may have another ``run_path``.
DIRECTORY: Final = Path("/run/claude-shard/agents")
# The network rules of a shard cover exactly this many numbers, as many as a shard may have slots.
USERS: Final = 64


class AgentUser:
    """Reserved user number. The kernel drops the reservation when the runner ends in any way.

    Attributes:
        number: user and group of the agent.
    """

    def __init__(self, number: int, lock: int | None = None) -> None:
        self.number = number
        self._lock = lock

    @classmethod
    def reserve(cls, first: int, slot: int, directory: Path = DIRECTORY) -> AgentUser:
        """Reserve the number of a slot, or another one if a job of another shard on this host has that.

        Only root can run agents as other users. Any other shard has no reservation.

        Args:
            first: number of the first user.
            slot: slot of the job, from 0.
            directory: folder of the host's reservations.

        Raises:
            JobError: ``sandbox_failed``, no number is free or the folder cannot be used.
        """
        if os.geteuid() != 0:
            return cls(first + slot)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for offset in range(USERS):
                number = first + (slot + offset) % USERS
                # Another runner may hold this one.
                with suppress(BlockingIOError):
                    return cls(number, file_locks.take(directory / str(number), wait=False))
        except OSError as error:
            message = f"The shard cannot reserve a user for the agent in {directory}: {error.strerror}"
            raise JobError("sandbox_failed", f"{message}; ask an operator to check it.", retryable=True) from error
        message = f"All {USERS} users for agents of this host are in use; try again on another shard."
        raise JobError("sandbox_failed", message, retryable=True)

    def release(self) -> None:
        """Make the number free again; the method may be called again."""
        if self._lock is not None:
            file_locks.release(self._lock)
            self._lock = None
