"""Times of suites and slowest tests over several runs of pytest.

``pytest --suite NAME`` writes the times of a run to ``.cache/test-times/NAME.json``, also when tests fail.
``python -m tests.times`` prints a summary of these files.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "test-times"
SHOWN = 20


@dataclass(frozen=True)
class SuiteTimes:
    """Times of one run of pytest, in seconds.

    Attributes:
        ended: time of the end, in seconds since the epoch.
        tests: time of each test with its fixtures, by node id.
    """

    name: str
    seconds: float
    exit_code: int
    ended: float
    tests: dict[str, float] = field(default_factory=dict)


class _Recorder:
    """Plugin that sums the phases of each test and writes the file at the end."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder
        self._started = time.monotonic()
        self._tests: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tests[report.nodeid] += report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        seconds = time.monotonic() - self._started
        write(SuiteTimes(self._name, seconds, int(exitstatus), time.time(), dict(self._tests)), self._folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", metavar="NAME", help="write the times of this run to NAME.json")
    parser.addoption("--times-folder", metavar="PATH", default=str(FOLDER), help=f"the folder of that file [{FOLDER}]")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--suite")
    if name and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(name, Path(config.getoption("--times-folder"))), "times-recorder")


def write(suite: SuiteTimes, folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{suite.name}.json").write_text(json.dumps(asdict(suite)))


def read(folder: Path = FOLDER) -> list[SuiteTimes]:
    """Return the suites in the order in which they ended."""
    suites = [SuiteTimes(**json.loads(path.read_text())) for path in folder.glob("*.json")]
    return sorted(suites, key=lambda suite: suite.ended)


def summary(suites: Iterable[SuiteTimes]) -> list[str]:
    """Return the lines that ``make test`` prints last."""
    suites = list(suites)
    every = [(seconds, name) for suite in suites for name, seconds in suite.tests.items()]
    slowest = sorted(every, reverse=True)[:SHOWN]
    lines = [f"Slowest {len(slowest)} tests:"]
    lines += [f"{seconds:8.1f} s  {name}" for seconds, name in slowest]
    lines.append("Suites:")
    for suite in suites:
        ending = "" if suite.exit_code == 0 else f", FAILED with exit code {suite.exit_code}"
        lines.append(f"{suite.seconds:8.0f} s  {suite.name}, {len(suite.tests)} tests{ending}")
    if suites:
        # Some suites run at the same time.
        began = min(suite.ended - suite.seconds for suite in suites)
        lines.append(f"{max(suite.ended for suite in suites) - began:8.0f} s  from the first start to the last end")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(summary(read())) + "\n")
