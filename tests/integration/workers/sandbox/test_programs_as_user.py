"""The same programs on a shard that an ordinary user has started, which needs a user namespace for each sandbox."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.fixtures.ordinary_user import as_ordinary_user
from tests.integration.workers.sandbox import test_programs as programs

TESTS = [
    pytest.param(name, marks=getattr(test, "pytestmark", []))
    for name, test in vars(programs).items()
    if name.startswith("test_")
]


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", TESTS)
def test_a_program_works_for_an_ordinary_user(name: str) -> None:
    # Other users cannot enter pytest's own directories.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        program = f"from pathlib import Path\nfrom {programs.__name__} import {name}\n{name}(Path({directory!r}))"
        done = subprocess.run(
            as_ordinary_user([sys.executable, "-c", program]),
            cwd=CHECKOUT,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert done.returncode == 0, done.stderr
