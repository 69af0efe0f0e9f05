"""Runs pytest on a file of its own, with the plugins of this folder's subject."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from myctobot.stack.plan import CHECKOUT

_CONFIG = "[pytest]\nmarkers = long: cannot be short\n"
_PLUGINS = (
    *(option for name in ("idle_stacks", "long", "times") for option in ("-p", f"tests.{name}")),
    *("-p", "no:django", "-p", "no:cacheprovider"),
)


def run_pytest(folder: Path, text: str, *options: str) -> str:
    """Return the output of a run of ``text`` as a file of tests."""
    (folder / "pytest.ini").write_text(_CONFIG)
    (folder / "test_inner.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *_PLUGINS, *options, "test_inner.py"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr
