from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.ssh_server import make_key
from workers.git.credentials import GitAccess, git_access
from workers.git.policy import GitPolicy, Remote
from workers.git.process import PATH

pytestmark = pytest.mark.anyio

REMOTE = Remote("ssh://git@h/r.git", "ssh", "h", 22, ("203.0.113.1",))
PATIENCE_S = 10


def socket_of(granted: GitAccess) -> Path:
    found = re.search(r'IdentityAgent="([^"]+)"', granted.env["GIT_SSH_COMMAND"])
    assert found is not None
    return Path(found[1])


def holds_a_key(agent: Path) -> bool:
    env = {"PATH": PATH, "SSH_AUTH_SOCK": str(agent)}
    return subprocess.run(["ssh-add", "-l"], env=env, capture_output=True, timeout=PATIENCE_S).returncode == 0


def forgets_its_key(agent: Path) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while (held := holds_a_key(agent)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not held


async def test_the_agents_socket_is_in_the_jobs_directory(short_dir: Path) -> None:
    async with git_access(REMOTE, make_key()[0], GitPolicy(), short_dir, 60) as granted:
        assert socket_of(granted).is_relative_to(short_dir)
        assert holds_a_key(socket_of(granted))
    assert list(short_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["j" * 120, "100%d"])
async def test_a_path_that_cannot_be_a_socket_is_not_used(short_dir: Path, name: str) -> None:
    unfit = short_dir / name
    unfit.mkdir()
    async with git_access(REMOTE, make_key()[0], GitPolicy(), unfit, 60) as granted:
        assert not socket_of(granted).is_relative_to(short_dir)
        assert holds_a_key(socket_of(granted))
        assert list(unfit.iterdir()) == []
    assert not socket_of(granted).parent.exists()


async def test_the_agent_forgets_the_key_after_the_calls_time(short_dir: Path) -> None:
    async with git_access(REMOTE, make_key()[0], GitPolicy(), short_dir, 1) as granted:
        assert forgets_its_key(socket_of(granted))
