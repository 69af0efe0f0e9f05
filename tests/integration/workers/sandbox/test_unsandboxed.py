"""Agent without bubblewrap, which the embedded stack allows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.workers.sandbox.test_sandbox import hide_bwrap, play


def test_without_a_sandbox_kill_all_spares_earlier_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_bwrap(monkeypatch)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as earlier:
        proof = play(tmp_path, lambda sandbox: sandbox.kill_all(), isolated=False)
        assert (proof["processes_killed"], earlier.poll()) == (0, None)
        earlier.kill()
