"""Pins and hashes of every package that the project installs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from scripts.audit.locks import files, pins, python_locks

from .source import ROOT, modules
from .supply_chain import (
    included,
    unfit,
    unlocked,
    unlocked_npm,
    unlocked_servers,
    unsafe_lines,
    unsafe_page,
    unsafe_python,
    unsafe_tasks,
)

LOCKS = python_locks(ROOT)
NPM_LOCKS = files(ROOT, "package-lock.json")
LOCKED_SERVERS = ROOT / "ansible" / "locks"
SHELL = [ROOT / "Makefile", ROOT / "scripts/setup", ROOT / "scripts/lock", *sorted((ROOT / ".ci").iterdir())]
PAGES = [*files(ROOT / "docs", "*.md"), ROOT / "README.md", ROOT / "ansible/README.md"]
TASKS = [path for path in files(ROOT / "ansible", "*.yml") if path.parent.name not in ("inventory", "types")]
VARIABLES = [*sorted((ROOT / "ansible/types").glob("*.yml")), ROOT / "ansible/roles/shard/defaults/main.yml"]
# Other tools resolve versions themselves, so the checks of the known locks would miss their locks.
OTHER_LOCKS = ("uv.lock", "poetry.lock", "Pipfile*", "pdm.lock", "yarn.lock", "pnpm-lock.yaml", "setup.py", "setup.cfg")


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_other_lock_exists() -> None:
    names = {where(path) for path in LOCKS}
    assert {"requirements.txt", "workers/requirements.txt", "requirements-dev.txt"} <= names
    assert {where(path) for path in files(ROOT, "*requirements*.txt")} <= names, (
        "each requirements file is a lock that 'make lock' creates from a short file"
    )
    assert len(NPM_LOCKS) == len(files(ROOT, "package.json")) > 0
    found = [where(path) for pattern in OTHER_LOCKS for path in files(ROOT, pattern)]
    assert not found, f"{found}: name the packages in a short file and run 'make lock'"


@pytest.mark.parametrize("lock", LOCKS, ids=where)
def test_every_package_of_a_lock_is_pinned_with_hashes(lock: Path) -> None:
    assert not unlocked(lock.read_text()), "run 'make lock'; edit the short file and not the lock"


@pytest.mark.parametrize("lock", LOCKS, ids=where)
def test_a_lock_agrees_with_its_short_file(lock: Path) -> None:
    short = lock.with_suffix(".in")
    todo, texts = [short], []
    while todo:
        path = todo.pop()
        texts.append(path.read_text())
        todo += [path.parent / name for name in included(texts[-1])]
    assert not unfit("\n".join(texts), lock.read_text())


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock.parent.name != "audit"], ids=where)
def test_shared_packages_have_the_same_versions(lock: Path) -> None:
    ours, workers = pins(lock.read_text()), pins((ROOT / "workers/requirements.txt").read_text())
    shared = {name for name, _ in ours} & {name for name, _ in workers}
    assert {pin for pin in ours if pin[0] in shared} == {pin for pin in workers if pin[0] in shared}, (
        "pin the same version in both short files, because both locks are installed together"
    )


@pytest.mark.parametrize("lock", NPM_LOCKS, ids=where)
def test_every_npm_package_has_an_integrity_hash(lock: Path) -> None:
    assert not unlocked_npm(lock.with_name("package.json").read_text(), lock.read_text())


@pytest.mark.parametrize("path", VARIABLES, ids=where)
def test_every_mcp_server_of_a_shard_has_a_lock(path: Path) -> None:
    python = {
        lock.stem: dict(pins(lock.read_text()))[lock.stem] for lock in LOCKS if lock.parent == LOCKED_SERVERS / "python"
    }
    chosen = [json.loads(lock.with_name("package.json").read_text())["dependencies"] for lock in NPM_LOCKS]
    npm = {name: version for one in chosen for name, version in one.items()}
    assert not unlocked_servers(yaml.safe_load(path.read_text()), python, npm)


def test_the_folder_of_an_npm_server_has_its_name() -> None:
    for lock in NPM_LOCKS:
        (name,) = json.loads(lock.with_name("package.json").read_text())["dependencies"]
        assert lock.parent.name == name.removeprefix("@").replace("/", "-"), (
            "rename the folder: the Ansible role finds the lock by the package name"
        )


def test_the_requirements_of_the_client_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    assert len(pins("\n".join(pinned))) == len(pinned), f"{pinned}: pin each requirement with =="


@pytest.mark.parametrize("path", SHELL, ids=where)
def test_no_script_installs_without_hashes(path: Path) -> None:
    assert not unsafe_lines(path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=where)
def test_no_page_recommends_an_install_without_hashes(path: Path) -> None:
    assert not unsafe_page(path.read_text())


@pytest.mark.parametrize("path", TASKS, ids=where)
def test_no_task_of_ansible_installs_without_hashes(path: Path) -> None:
    assert not unsafe_tasks(path.read_text())


def test_no_code_installs_without_hashes() -> None:
    wrong = [
        f"{module.where}: {one}"
        for module in modules("jobs", "myctobot", "scripts", "shards", "workers")
        for one in unsafe_python(module.text)
    ]
    assert not wrong, f"{wrong}: install from a lock with hashes"
