"""Services of a test run: one PostgreSQL for all processes, and one home and one Redis for each process.

A process is pytest itself or a worker of pytest-xdist. The process that starts workers runs no test. It owns the folder
and the PostgreSQL, which each worker uses. Django's settings read the environment when they are imported. Each process
therefore builds a new environment before pytest-django sets up Django. No variable of the caller changes a test or
reaches a process under test.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from myctobot.stack.environment import Addresses, own_variables
from myctobot.stack.home import GeneratedSecrets, Home
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.redis import EmbeddedRedis
from myctobot.stack.services import Service

# This variable gives the folder of the run to workers and stacks.
RUN_FOLDER = "MYCTOBOT_TEST_RUN"
RUNS = CHECKOUT / ".cache" / "tests"
_DATABASE_URL = "MYCTOBOT_TEST_DATABASE_URL"
_KEPT = ("PATH", "TERM", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "CI")
# The language and the time zone of the host must not change a test.
_FIXED = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


class TestRun:
    """Services and folders of a run that one process owns."""

    __test__ = False

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self._services: list[Service] = []
        self._owned: list[Path] = []
        self._lock: int | None = None

    @classmethod
    def start(cls) -> TestRun:
        """Create a folder and start a PostgreSQL in it; ``stop`` removes both."""
        RUNS.mkdir(parents=True, exist_ok=True)
        _remove_dead_runs()
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=RUNS))
        run = cls(folder, "")
        run._owned.append(folder)
        run._lock = _try_lock(folder)
        try:
            run.database_url = run._start_service(EmbeddedPostgres(folder, durable=False))
        except BaseException:
            run.stop()
            raise
        return run

    @classmethod
    def join(cls) -> TestRun:
        """Return the run of the process that started this worker."""
        return cls(Path(os.environ[RUN_FOLDER]), os.environ[_DATABASE_URL])

    def use_as_environment(self) -> None:
        """Replace this process's environment by one that its workers can join."""
        home = Home(self.folder)
        _replace_environment(self._shared_variables(home), home)

    def enter(self, name: str) -> None:
        """Create a home, a Redis and an environment for the Django settings of this process."""
        home = Home(self.folder / name)
        home.prepare()
        redis_url = self._start_service(EmbeddedRedis(home.root, port=0))
        # The first test that needs a database creates it with this name.
        database_url = urlsplit(self.database_url)._replace(path=f"/test_{name}").geturl()
        addresses = Addresses(database_url, redis_url, "http://127.0.0.1:8000", "http://127.0.0.1:8001")
        own = own_variables({}, home, GeneratedSecrets.load_or_create(home.root), addresses)
        settings = {"DJANGO_SETTINGS_MODULE": "myctobot.settings"}
        _replace_environment({**self._shared_variables(home), **own, **settings}, home)

    def stop(self) -> None:
        """Stop the services of this process, and remove the folder if this process created it."""
        while self._services:
            self._services.pop().stop()
        while self._owned:
            shutil.rmtree(self._owned.pop(), ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _start_service(self, service: Service) -> str:
        self._services.append(service)
        return service.start()

    def _shared_variables(self, home: Home) -> dict[str, str]:
        # Programs under test must not write to the caller's home or read its git configuration.
        user_home = home.root / "person"
        user_home.mkdir(exist_ok=True)
        return {RUN_FOLDER: str(self.folder), _DATABASE_URL: self.database_url, "HOME": str(user_home)}


def _replace_environment(variables: dict[str, str], home: Home) -> None:
    if "myctobot.env" in sys.modules:
        raise RuntimeError("a plugin or conftest.py imports myctobot.env, which has read the caller's environment")
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    temporary = {"TMPDIR": str(home.tmp), "PYTEST_DEBUG_TEMPROOT": str(home.tmp)}
    os.environ.clear()
    os.environ.update({**kept, **_FIXED, **variables, **temporary})
    time.tzset()
    tempfile.tempdir = None


@contextmanager
def once_per_run(name: str) -> Iterator[Path | None]:
    """Yield the path to create to the first process of the run, and None to the others.

    The other processes wait until the first one has left the block.
    """
    done = Path(os.environ[RUN_FOLDER]) / f"{name}.done"
    with done.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            yield None
            return
        yield done.with_suffix("")
        done.touch()


def _try_lock(folder: Path) -> int | None:
    """Lock the folder of a run until this process ends, or return None when another process holds the lock."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_dead_runs() -> None:
    """Remove the folders of killed runs, whose servers ended with their process."""
    for folder in RUNS.glob("run-*/"):
        # A newer run may not have locked its folder yet.
        if time.time() - folder.stat().st_mtime < 60:
            continue
        if (lock := _try_lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
