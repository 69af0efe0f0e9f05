"""Services of the run, the setup of Django, and the shared stack."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import django
import hypothesis
import pytest

from myctobot.contract import loading
from tests.run import TestRun
from tests.stacks import SCRIPTS, RunningStack, running_stack

pytest_plugins = [
    "tests.databases",
    "tests.fault_seed",
    "tests.groups",
    "tests.idle_stacks",
    "tests.long",
    "tests.needs",
    "tests.static_files",
    "tests.times",
]

# Stored examples and a busy machine must not change the result of a test.
hypothesis.settings.register_profile("tests", database=None, deadline=None)
hypothesis.settings.load_profile("tests")

_RUN = pytest.StashKey[TestRun]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A background job of a shell ignores Ctrl-C, and programs under test would inherit this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = getattr(config, "workerinput", None)
    run = config.stash[_RUN] = TestRun.join() if worker else TestRun.start()
    if worker is None and config.getoption("dist") != "no":
        # The workers run the tests and set up Django.
        run.use_as_environment()
        return
    run.enter(worker["workerid"] if worker else "main")
    loading.begin()
    # The temporary files of a worker are in its own home.
    config.option.basetemp = None if worker else config.option.basetemp
    # pytest-django searched for the settings before they existed.
    django.setup()


def pytest_collection_finish() -> None:
    # Modules and tests stay until the end.
    loading.finish()


def pytest_unconfigure(config: pytest.Config) -> None:
    if run := config.stash.get(_RUN, None):
        run.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Start a stack with one shard. A test that leaves damage starts its own stack."""
    home = tmp_path_factory.mktemp("stack") / "home"
    # Tests create their repositories in folders of their own below this one.
    environ = {"GATEWAY_SCRIPTS": str(SCRIPTS), "REPO_FILE_ROOTS": str(tmp_path_factory.getbasetemp())}
    with running_stack(home, environ=environ) as running:
        yield running
