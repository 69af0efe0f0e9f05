from __future__ import annotations

from pathlib import Path

import pytest

from workers.sandbox.limits import ResourceLimits
from workers.sandbox.plan import Descriptors, Mount, SandboxConfig, SandboxHost, command, options, to_host_paths

CONFIG = SandboxConfig(ResourceLimits(memory_mb=100), agent_uid=64001, read_only=(Path("/srv/tools/venv"),))
ROOT = SandboxHost(
    root=True,
    links={"/bin": "usr/bin", "/lib64": None},
    bwrap="/usr/bin/bwrap",
    setpriv="/usr/bin/setpriv",
    etc_directories=("/etc/ssl/certs",),
)
USER = SandboxHost(root=False, links={}, bwrap="/usr/bin/bwrap", setpriv=None)


def plan(host: SandboxHost, mounts: tuple[Mount, ...] = (), env: dict[str, str] | None = None) -> str:
    fds = Descriptors(status=7, block=8, seccomp=9)
    return " ".join(options(CONFIG, host, Path("/jobs/1/agent"), mounts, env or {}, "/workspace", fds)) + " "


@pytest.mark.parametrize(
    "words",
    [
        "--die-with-parent --new-session --clearenv ",
        "--unshare-pid --unshare-ipc --unshare-uts --hostname agent --unshare-net --unshare-cgroup ",
        "--bind /jobs/1/agent/repo /workspace ",
        "--bind /jobs/1/agent/home /home/agent ",
        "--ro-bind /srv/tools/venv /srv/tools/venv ",
        "--perms 1777 --size 52428800 --tmpfs /tmp ",
        "--ro-bind /jobs/1/etc /etc --ro-bind-try /etc/ssl/certs /etc/ssl/certs --proc /proc ",
        "--symlink usr/bin /bin --ro-bind /lib64 /lib64 ",
        "--remount-ro /dev --remount-ro / ",
        "--seccomp 9 --json-status-fd 7 --block-fd 8 ",
    ],
)
def test_plan_has(words: str) -> None:
    assert words in plan(ROOT)


@pytest.mark.parametrize("path", ["/root", "/home", "/var", "/run", "/etc", "/", "/jobs", "/jobs/1", "/jobs/1/agent"])
def test_plan_shows_no_directory_of_the_host(path: str) -> None:
    assert f"bind {path} " not in plan(ROOT)


def test_root_needs_no_user_namespace_and_drops_everything_inside() -> None:
    assert "--unshare-user" not in plan(ROOT)
    dropped = command(CONFIG, ROOT, ["git", "status"])
    assert dropped[:3] == ["/usr/bin/setpriv", "--reuid", "64001"]
    assert {"--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"} < set(dropped)
    assert dropped[-3:] == ["--", "git", "status"]


def test_ordinary_user_gets_a_user_namespace_without_further_ones() -> None:
    assert "--unshare-user --disable-userns --uid 64001 --gid 64001 " in plan(USER)
    assert command(CONFIG, USER, ["git", "status"]) == ["git", "status"]


def test_the_environment_is_fixed_and_the_callers_variables_take_precedence() -> None:
    written = plan(USER, env={"LANG": "de_DE.UTF-8", "TOKEN": "x"})
    assert "--clearenv" in written
    assert "--setenv LANG de_DE.UTF-8 " in written
    assert "--setenv TOKEN x " in written
    assert "--setenv PATH /usr/local/bin:/usr/bin:/bin " in written


def test_directories_above_a_mount_can_be_entered() -> None:
    written = plan(ROOT, (Mount(Path("/jobs/1/seed"), "/opt/agent/seed"),))
    assert "--perms 0755 --dir /opt --perms 0755 --dir /opt/agent " in written
    assert "--ro-bind /jobs/1/seed /opt/agent/seed " in written


@pytest.mark.parametrize("target", ["relative", "/", "/opt/../etc/shadow", ""])
def test_mount_target_must_be_below_the_root(target: str) -> None:
    with pytest.raises(ValueError, match="mount target"):
        Mount(Path("/tmp"), target)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("/workspace", "/jobs/1/repo"),
        ("/workspace/a.txt", "/jobs/1/repo/a.txt"),
        ("--git-dir=/workspace/.git", "--git-dir=/jobs/1/repo/.git"),
        ("/seed:/workspace", "/jobs/1/seed.bundle:/jobs/1/repo"),
        ("/workspaces", "/workspaces"),
        ("/srv/workspace", "/srv/workspace"),
    ],
)
def test_only_whole_paths_are_translated(text: str, seen: str) -> None:
    assert to_host_paths(text, {"/workspace": "/jobs/1/repo", "/seed": "/jobs/1/seed.bundle"}) == seen
