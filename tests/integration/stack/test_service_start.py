"""Tries of one step of a service's start."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from myctobot.stack import restart
from myctobot.stack.console import StackConsole
from myctobot.stack.errors import ServiceFailed, StackError
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.processes import Records
from myctobot.stack.service_start import ServiceStarter
from myctobot.stack.supervisor import Supervisor


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(restart, "MAX_WAIT_S", 0.01)


def failing(error: Exception, times: int) -> Callable[[], str]:
    left = iter([error] * times)

    def step() -> str:
        for found in left:
            raise found
        return "done"

    return step


def tried(folder: Path, step: Callable[[], str], give_up_after: int | None = None) -> tuple[str, list[str]]:
    """Try a step of PostgreSQL, and return its result and the output."""
    output = io.StringIO()

    async def main() -> str:
        console = StackConsole(output)
        starter = ServiceStarter(console, Supervisor(console, Records(folder)), give_up_after)
        return await starter.try_until_done(EmbeddedPostgres(folder), step)

    return asyncio.run(main()), output.getvalue().splitlines()


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
AWAY = ServiceFailed("postgres", "did not create its roles: the server closed the connection", ["the last line"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "postgres cannot be prepared: [Errno 28] No space left on device"),
        (AWAY, "postgres did not create its roles: the server closed the connection. Its last log lines:"),
    ],
)
def test_a_step_is_tried_until_it_succeeds(tmp_path: Path, error: Exception, reason: str) -> None:
    result, lines = tried(tmp_path, failing(error, 20))
    assert result == "done"
    assert sum(reason in line for line in lines) == 20
    assert sum(f"its log: {tmp_path}/log/postgres.log" in line for line in lines) == 20


def test_a_step_is_given_up_after_the_given_number_of_tries(tmp_path: Path) -> None:
    assert tried(tmp_path, failing(FULL, 2), 3)[0] == "done"
    with pytest.raises(OSError, match="No space left"):
        tried(tmp_path, failing(FULL, 3), 3)


def test_an_error_that_no_other_try_mends_ends_the_tries(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="another version"):
        tried(tmp_path, failing(StackError("another version"), 1))


def test_a_server_that_went_away_before_its_setup_can_be_tried_again(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    for step in (postgres.finish, postgres.grant_rights):
        with pytest.raises(ServiceFailed, match="postgres did not"):
            step()
