"""Users of the programs: a home of an earlier release, and a checkout that other users cannot read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from myctobot.stack.home import Home
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.programs import Program
from myctobot.stack.users import NUMBERS, ProgramUsers, give, number_of
from tests.stacks import RunningStack, running_stack

pytestmark = pytest.mark.needs("root")


@pytest.mark.parametrize(
    ("program", "number"),
    [("web", NUMBERS["web"]), ("web-2", NUMBERS["web"]), ("shard-local", None), ("operations", None)],
)
def test_programs_that_need_root_keep_it(program: str, number: int | None) -> None:
    assert number_of(program) == number


def test_a_folder_is_given_with_all_that_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    folder = tmp_path / "given"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "link").symlink_to(outside)
    give(folder, NUMBERS["redis"])
    owners = {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}
    assert (owners, outside.stat().st_uid) == ({NUMBERS["redis"]}, 0)


def users_of(stack: RunningStack) -> dict[str, int]:
    return {name: psutil.Process(stack.pid_of(name)).uids().real for name in ("web", "redis", "beat")}


def test_a_home_of_a_release_without_users_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    without = [option for name in ("shard", "operations", "gateway") for option in ("--without", name)]
    with running_stack(home, "--one-user", *without) as earlier:
        assert "all programs run AS ROOT" in earlier.output()
        assert set(users_of(earlier).values()) == {0}
    with running_stack(home, *without) as stack:
        assert users_of(stack) == {name: NUMBERS[name] for name in ("web", "redis", "beat")}
        headers = {"Authorization": f"Bearer {earlier.api_key}"}
        assert httpx.get(f"{stack.web_url}/api/v1/jobs", headers=headers, timeout=5).status_code == 200


def test_what_others_cannot_read_stops_the_start(tmp_path: Path) -> None:
    Home(tmp_path).prepare()
    closed = tmp_path / "closed.py"
    closed.touch(mode=0o600)
    program = Program("check", ("cat", str(closed)), {"PATH": os.defpath}, tmp_path)
    process = ProgramUsers(Home(tmp_path), CHECKOUT).apply(program).popen(subprocess.PIPE)
    assert "Permission denied" in process.communicate(timeout=30)[0].decode()
