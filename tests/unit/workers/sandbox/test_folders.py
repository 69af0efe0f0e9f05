"""Folders that the sandbox of a job mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.sandbox import folders
from workers.sandbox.folders import make_folders
from workers.sandbox.limits import ResourceLimits
from workers.sandbox.plan import SandboxConfig, SandboxHost

UID = 64001
# The folders keep the user of this process, which need not be root.
HOST = SandboxHost(root=False, links={}, bwrap=None, setpriv=None)


@pytest.fixture
def host_etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that takes the place of the host's /etc."""
    etc = tmp_path / "host"
    (etc / "ssl" / "certs").mkdir(parents=True)
    (etc / "ssl" / "certs" / "one.pem").write_text("certificate")
    (etc / "hosts").write_text("127.0.0.1 localhost")
    (etc / "real.conf").write_text("nameserver 192.0.2.1")
    (etc / "resolv.conf").symlink_to(etc / "real.conf")
    (etc / "secret.conf").write_text("secret")
    (etc / "secret.conf").chmod(0o600)
    (etc / "dangling").symlink_to(etc / "missing")
    names = ("ssl/certs", "hosts", "resolv.conf", "secret.conf", "dangling", "absent")
    monkeypatch.setattr(folders, "_ETC", etc)
    monkeypatch.setattr(folders, "ETC_PATHS", tuple(str(etc / name) for name in names))
    return etc


def made(folder: Path, *read_only: Path, isolated: bool = True) -> Path:
    config = SandboxConfig(ResourceLimits(), UID, isolated=isolated, read_only=read_only)
    make_folders(folder / "agent", config, HOST)
    return folder / "etc"


def test_the_files_of_the_host_are_copied_and_its_directories_are_mount_points(tmp_path: Path, host_etc: Path) -> None:
    etc = made(tmp_path / "job")
    found = {str(path.relative_to(etc)) for path in etc.rglob("*")}
    assert found == {"ssl", "ssl/certs", "hosts", "resolv.conf", "secret.conf", "passwd", "group"}
    assert (etc / "resolv.conf").read_text() == "nameserver 192.0.2.1"
    assert not (etc / "resolv.conf").is_symlink()


def test_a_file_that_only_its_owner_may_read_stays_so(tmp_path: Path, host_etc: Path) -> None:
    assert (made(tmp_path / "job") / "secret.conf").stat().st_mode & 0o777 == 0o600


def test_a_file_that_the_user_of_the_shard_cannot_read_is_left_out(
    tmp_path: Path, host_etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def read_as_ordinary_user(path: Path) -> bytes:
        if path.stat().st_mode & 0o004:
            return read(path)
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_bytes", read_as_ordinary_user)
    etc = made(tmp_path / "job")
    assert not (etc / "secret.conf").exists()
    assert (etc / "hosts").exists()


def test_the_agent_reads_the_files_under_any_umask(tmp_path: Path, host_etc: Path) -> None:
    before = os.umask(0o077)
    try:
        etc = made(tmp_path / "job")
    finally:
        os.umask(before)
    modes = {str(path.relative_to(etc)): path.stat().st_mode & 0o777 for path in [etc, *etc.rglob("*")]}
    assert modes == {
        ".": 0o755, "ssl": 0o755, "ssl/certs": 0o755, "hosts": 0o644, "resolv.conf": 0o644, "secret.conf": 0o600,
        "passwd": 0o644, "group": 0o644,
    }  # fmt: skip


def test_the_accounts_are_the_agents_own(tmp_path: Path, host_etc: Path) -> None:
    etc = made(tmp_path / "job")
    assert [line.split(":")[:3] for line in (etc / "passwd").read_text().splitlines()] == [
        ["root", "x", "0"],
        ["agent", "x", str(UID)],
    ]
    assert (etc / "group").read_text() == f"root:x:0:\nagent:x:{UID}:\n"


def test_a_path_that_an_operator_adds_below_etc_gets_a_mount_point(tmp_path: Path, host_etc: Path) -> None:
    (host_etc / "tool").mkdir()
    (host_etc / "tool.conf").write_text("content")
    etc = made(tmp_path / "job", host_etc / "tool", host_etc / "tool.conf", tmp_path / "elsewhere")
    assert (etc / "tool").is_dir()
    # The mount covers it.
    assert (etc / "tool.conf").read_text() == ""


def test_folders_that_exist_are_used_again(tmp_path: Path, host_etc: Path) -> None:
    made(tmp_path / "job")
    (host_etc / "hosts").write_text("192.0.2.7 changed")
    assert (made(tmp_path / "job") / "hosts").read_text() == "192.0.2.7 changed"


def test_without_isolation_there_is_no_etc(tmp_path: Path, host_etc: Path) -> None:
    assert not made(tmp_path / "job", isolated=False).exists()
    assert (tmp_path / "job" / "agent" / "repo").is_dir()
