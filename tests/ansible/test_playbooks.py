"""The playbooks as files: they parse, the linter has nothing to say, and they name no place but the operator's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shards.providers.ansible import FOLDER

BIN = Path(sys.executable).parent
PLAYBOOKS = sorted((FOLDER / "playbooks").glob("*.yml"))
ROLE = FOLDER / "roles" / "shard"


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=FOLDER,
        env={"PATH": f"{BIN}:{os.defpath}", "HOME": str(home), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_playbook_parses(tmp_path: Path, playbook: Path) -> None:
    done = run(tmp_path, "ansible-playbook", "--syntax-check", str(playbook))
    assert done.returncode == 0, done.stderr


def test_the_linter_has_nothing_to_say(tmp_path: Path) -> None:
    done = run(tmp_path, "ansible-lint", "--offline", "--strict", "--nocolor", "--project-dir", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_a_place_that_is_not_the_operators() -> None:
    # Addresses of examples, and names that stand for the operator's own.
    allowed = re.compile(r"192\.0\.2\.\d+|control\.example")
    places = re.compile(r"https?://([\w.-]+\.[\w.-]+)")
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    wrong = {
        f"{path.name}: {found}"
        for path in files
        for found in places.findall(path.read_text())
        if not allowed.fullmatch(found)
    }
    assert not wrong


def test_every_default_is_explained_or_speaks_for_itself() -> None:
    documented = (FOLDER.parent / "docs" / "ansible.md").read_text()
    missing = [
        name for name in yaml.safe_load((ROLE / "defaults/main.yml").read_text()) if f"`{name}`" not in documented
    ]
    assert not missing, f"docs/ansible.md says nothing of {missing}"


def test_every_folder_of_a_release_is_linked() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/release.yml").read_text())
    commands = [
        task["ansible.builtin.command"]["argv"]
        for block in tasks
        for task in block.get("block", ())
        if "ansible.builtin.command" in task
    ]
    (pack,) = (command for command in commands if command[0] == "tar")
    packed = [word for word in pack[1:] if not word.startswith("-")]
    (link,) = (task for task in tasks if task.get("ansible.builtin.file", {}).get("state") == "link")
    assert set(link["loop"]) == {Path(path).parts[0] for path in packed}
