"""One real PostgreSQL and one real Redis for the whole run, in a folder that goes away with it.

Django's settings read the environment when they are imported, so it is made here, before pytest-django
sets Django up: from nothing, so that no variable of the caller changes a test or leaks into a process.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from myctobot.stack.environment import BASE, Addresses, own_variables
from myctobot.stack.home import GeneratedSecrets, Home
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.redis import EmbeddedRedis
from myctobot.stack.services import Service
from tests.stacks import PLAYS, RunningStack, running_stack

pytest_plugins = ["tests.needs"]

CHECKOUT = Path(__file__).resolve().parent.parent
_KEPT = (*BASE, "COLUMNS", "NO_COLOR", "FORCE_COLOR", "CI", "FAULTS")
_run: list[Service] = []
_homes: list[Path] = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A shell's background job ignores Ctrl-C and hands that on; the programs under test must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = CHECKOUT / ".cache" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    _homes.append(root)
    home = Home(root)
    home.prepare()
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, **_environment(home))
    tempfile.tempdir = None
    # pytest-django looked for settings before there were any.
    django.setup()


def _environment(home: Home) -> dict[str, str]:
    postgres, redis = EmbeddedPostgres(home.root, durable=False), EmbeddedRedis(home.root, port=0)
    _run.extend((postgres, redis))
    addresses = Addresses(postgres.start(), redis.start(), "http://127.0.0.1:8000", "http://127.0.0.1:8001")
    person = home.root / "person"
    person.mkdir()
    return {
        **own_variables({}, home, GeneratedSecrets.load_or_create(home.root), addresses),
        "DJANGO_SETTINGS_MODULE": "myctobot.settings",
        # Neither the caller's git nor any other configuration; and nothing is written there.
        "HOME": str(person),
        "TMPDIR": str(home.tmp),
        "PYTEST_DEBUG_TEMPROOT": str(home.tmp),
    }


def pytest_unconfigure(config: pytest.Config) -> None:
    while _run:
        _run.pop().stop()
    while _homes:
        shutil.rmtree(_homes.pop(), ignore_errors=True)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """``manage.py up`` with one shard; a test that kills more than it repairs starts one of its own."""
    home = tmp_path_factory.mktemp("stack") / "home"
    with running_stack(home, environ={"GATEWAY_PLAYS": str(PLAYS)}) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_old_look() -> None:
    """What a test before saw of the line, less than a second ago, is not this one's."""
    from jobs.lifecycle import admission as room
    from jobs.queue.waiting import lately  # needs the apps

    lately.forget()
    room.forget()
