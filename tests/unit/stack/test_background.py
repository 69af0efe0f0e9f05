"""The command for processes of the control plane that serve no requests."""

from __future__ import annotations

import sys

import pytest

from myctobot.contract import loading
from myctobot.stack import background


@pytest.mark.parametrize("threads", ["0", "-1", "65", "100000", "four", "²", ""])
def test_a_wrong_number_of_threads(
    threads: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["background", "control", f"--threads={threads}"])
    with pytest.raises(SystemExit) as ended:
        background.main()
    assert ended.value.code == 2
    assert "--threads: must be a whole number from 1 to 64" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "expected"), [([], 4), (["--threads", "1"], 1), (["--threads", "64"], 64)])
def test_the_number_of_threads(options: list[str], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, int]] = []

    def note(app: object, name: str, threads: int) -> int:
        started.append((name, threads))
        loading.finish()
        return 3

    monkeypatch.setattr(background, "run_worker", note)
    monkeypatch.setattr(sys, "argv", ["background", "operations", *options])
    assert background.main() == 3
    assert started == [("operations", expected)]
