"""Sample repository with a failing test, for an agent to fix.

``python -m myctobot.demo.repository`` creates it below ``.myctobot/example`` and prints its URL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from myctobot.demo.errors import DemoFailed
from myctobot.demo.options import myctobot_home

TIMEOUT_S: Final = 60
TEST_COMMAND: Final = ("-m", "unittest", "-q")

FILES: Final[Mapping[str, str]] = {
    ".gitignore": "__pycache__/\n",
    "README.md": "# calc\n\nA little statistics. Run the tests with `python3 -m unittest`.\n",
    "calc.py": '''"""A little statistics."""


def average(values: list[float]) -> float:
    """Return the arithmetic mean of some numbers."""
    return sum(values) / (len(values) + 1)
''',
    "test_calc.py": """import unittest

from calc import average


class AverageTest(unittest.TestCase):
    def test_average_of_three_numbers(self) -> None:
        self.assertEqual(average([2, 4, 6]), 4)


if __name__ == "__main__":
    unittest.main()
""",
}


def _clean_environment() -> dict[str, str]:
    """Return an environment without the caller's git configuration and keys."""
    identity = {"NAME": "MyCTOBot demo", "EMAIL": "demo@myctobot.invalid"}
    people = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in identity.items()}
    return {
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": os.devnull,
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        **people,
    }


def git(folder: Path, *arguments: str) -> str:
    """Run git and return its output.

    Raises:
        DemoFailed: git is missing or failed.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=_clean_environment(), capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise DemoFailed("git is not installed; install the package 'git'.") from error
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"git {arguments[0]} took longer than {TIMEOUT_S} s.") from error
    if done.returncode:
        raise DemoFailed(f"git {arguments[0]} failed in {folder}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Sample:
    """Sample repository: a working copy, and a bare repository that replaces a git host."""

    work: Path
    origin: Path

    @property
    def url(self) -> str:
        return self.origin.as_uri()

    def check_out(self, branch: str, folder: Path) -> Path:
        """Clone a pushed branch into a new folder."""
        shutil.rmtree(folder, ignore_errors=True)
        git(self.origin, "clone", "--quiet", "--branch", branch, "--", str(self.origin), str(folder))
        return folder


def make_sample(folder: Path) -> Sample:
    """Create the repository in ``folder`` and remove an earlier one."""
    sample = Sample(folder / "repo", folder / "origin.git")
    for old in (sample.work, sample.origin):
        shutil.rmtree(old, ignore_errors=True)
    sample.work.mkdir(parents=True)
    for name, text in FILES.items():
        (sample.work / name).write_text(text)
    git(sample.work, "init", "--quiet", "--initial-branch=main")
    git(sample.work, "add", "--all")
    git(sample.work, "commit", "--quiet", "--message", "A little statistics")
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(sample.origin))
    git(sample.work, "remote", "add", "origin", str(sample.origin))
    git(sample.work, "push", "--quiet", "origin", "main")
    return sample


@dataclass(frozen=True)
class TestResult:
    """Result of the repository's own tests."""

    passed: bool
    output: str


def run_tests(folder: Path) -> TestResult:
    """Run the repository's tests in a folder.

    Raises:
        DemoFailed: the tests do not end in time.
    """
    try:
        done = subprocess.run(
            [sys.executable, *TEST_COMMAND],
            cwd=folder,
            env=_clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"The tests in {folder} did not end within {TIMEOUT_S} s.") from error
    return TestResult(done.returncode == 0, done.stdout)


def main() -> int:
    """Create the repository, print its URL and return the exit code."""
    try:
        sample = make_sample(myctobot_home(os.environ) / "example")
    except DemoFailed as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    print(sample.url)  # noqa: T201 - a command's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
