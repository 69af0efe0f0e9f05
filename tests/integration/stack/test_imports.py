"""Processes of the stack that stay until its end do not import what they never use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from myctobot.stack.plan import CHECKOUT


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("myctobot.stack.background", "celery.bin.celery"),
        ("myctobot.stack.management.commands.up", "myctobot.settings"),
    ],
)
def test_a_process_leaves_out_large_modules(module: str, unused: str) -> None:
    code = f"import sys, {module}; sys.exit({unused!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, timeout=60, check=False).returncode == 0
