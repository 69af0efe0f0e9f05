"""Limits on what the repository holds: text of a moderate size."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from .source import ROOT

# The locks with their hashes are the largest texts.
MAX_BYTES = 300_000
# Compressed data of a fixture.
BINARY = {Path("tests/fixtures/proxmox/pve-api.json.gz")}
_SAMPLE = 8192


def tracked() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    names = [Path(name) for name in listed.stdout.split("\0") if name]
    assert names
    return (name for name in names if (ROOT / name).is_file())


def test_tracked_files_are_texts_of_a_moderate_size() -> None:
    wrong = [
        str(name)
        for name in tracked()
        if (ROOT / name).stat().st_size > MAX_BYTES
        or (name not in BINARY and b"\0" in (ROOT / name).read_bytes()[:_SAMPLE])
    ]
    assert not wrong, f"{wrong}: remove files that a program downloaded or built; 'git status' shows what is new"
