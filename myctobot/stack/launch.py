"""Launcher that prepares its own process and then executes another program in it.

It runs as a script, with ``python -IS``, between fork and exec. A ``preexec_fn`` would run Python code in a
forked copy of a process that may have threads. The launcher ends the program when the supervisor ends
(``PR_SET_PDEATHSIG``). For a program that root starts as another user, it drops all rights of root for good.

What such a program needs may be below a directory that only root can enter, such as ``/root``. The program then gets
a mount namespace, in which an empty directory covers that one, and only what it needs is mounted there. No directory
of the host is opened to others, and the program keeps no right to pass through.

``initdb`` requires that its user has a name. A user without a name (``docker run --user 1234``) gets one in a
user namespace.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import stat
import sys
from pathlib import Path

# linux/prctl.h, linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
CAP_VERSION_3 = 0x20080522
# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
# linux/mount.h
MS_NOSUID = 2
MS_NODEV = 4
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
_PASS_THROUGH = 0o711


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _prctl(what: str, *args: int) -> None:
    _check(_libc.prctl(*(ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:5])), what)


def _mount(source: str, target: Path, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"cannot mount {target}")


def _closed_parent(path: Path) -> Path | None:
    """Return the first directory above ``path`` that other users cannot enter."""
    for parent in reversed(path.parents):
        if not parent.is_dir():
            return None
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def make_reachable(paths: list[Path]) -> None:
    """Let every user reach some files and folders, in a mount namespace of this process alone.

    Args:
        paths: absolute, without symbolic links.

    Raises:
        OSError: a path does not exist, or this process may not mount.
    """
    paths = sorted(set(paths), key=lambda path: len(path.parts))
    if all(_closed_parent(path) is None for path in paths):
        return
    here = Path.cwd()
    _check(_libc.unshare(CLONE_NEWNS), "no mount namespace")
    _mount("none", Path("/"), None, MS_REC | MS_SLAVE)
    # A path cannot be opened any more when a directory above it is covered.
    for path, descriptor in [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in paths]:
        _expose(path, descriptor)
        os.close(descriptor)
    os.chdir(here)


def _expose(path: Path, descriptor: int) -> None:
    """Cover the closed directories above ``path``, and mount what ``descriptor`` refers to at that path."""
    wanted = os.fstat(descriptor)
    while (closed := _closed_parent(path)) is not None:
        _mount("tmpfs", closed, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={_PASS_THROUGH:o},size=1m")
    if path.exists() and os.path.samestat(path.stat(), wanted):
        return
    for parent in reversed(path.parents):
        if not parent.is_dir():
            parent.mkdir()
            parent.chmod(_PASS_THROUGH)
    if stat.S_ISDIR(wanted.st_mode):
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    _mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)


def drop_root(uid: int) -> None:
    """Change to the user ``uid`` and the group with the same id, without any capability, irreversibly.

    Args:
        uid: any id except 0; it needs no entry in the user database.
    """
    capability = 0
    # The kernel refuses to read the first number that it does not know.
    while _libc.prctl(PR_CAPBSET_READ, ctypes.c_ulong(capability), 0, 0, 0) >= 0:
        _prctl("PR_CAPBSET_DROP", PR_CAPBSET_DROP, capability)
        capability += 1
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # Inheritable capabilities outlive the change of user; the change clears all others.
    none = (_CapData * 2)(_CapData(0, 0, 0), _CapData(0, 0, 0))
    _check(_libc.capset(ctypes.byref(_CapHeader(CAP_VERSION_3, 0)), none), "capset")
    _prctl("PR_SET_NO_NEW_PRIVS", PR_SET_NO_NEW_PRIVS, 1)
    os.umask(0o077)


def appear_as(uid: int) -> None:
    """Map this process's user to ``uid`` in a new user namespace; its rights do not change."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(CLONE_NEWUSER), "no user namespace")
    # A process that changed its user cannot write its own files in /proc until it is dumpable.
    _prctl("PR_SET_DUMPABLE", PR_SET_DUMPABLE, 1)
    for name, line in (
        ("setgroups", b"deny"),
        ("uid_map", b"%d %d 1" % (uid, outside_uid)),
        ("gid_map", b"%d %d 1" % (uid, outside_gid)),
    ):
        # The kernel requires a single write per file. Do not import here: Python's files may be unreadable now.
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, line)
        os.close(descriptor)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="launch")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--reach", action="append", type=Path, default=[])
    parser.add_argument("--appear-as", type=int)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    if options.uid:
        make_reachable(options.reach)
        drop_root(options.uid)
    if options.appear_as:
        appear_as(options.appear_as)
    # Set this after the change of user, which clears it.
    _prctl("PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, options.death_signal)
    if os.getppid() != options.parent:
        sys.exit("launch: the parent process has already ended")
    os.execvp(options.command[0], options.command)  # noqa: S606 - a list, no shell; the stack's own programs


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"launch: {error}")
