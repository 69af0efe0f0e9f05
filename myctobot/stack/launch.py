"""Launcher that prepares its own process and then executes another program in it.

It runs as a script, with ``python -IS``, between fork and exec. A ``preexec_fn`` would run Python code in a
forked copy of a process that may have threads. The launcher ends the program when the supervisor ends
(``PR_SET_PDEATHSIG``), and drops root's rights for PostgreSQL, which refuses to run as root.

The data or the program may be below a directory that only root can enter, such as ``/root``. The unprivileged
user then keeps one capability: to read and search (``CAP_DAC_READ_SEARCH``). The alternative would be to open
root's directories to all users.

``initdb`` requires that its user has a name. A user without a name (``docker run --user 1234``) gets one in a
user namespace.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys

# linux/prctl.h, linux/capability.h, linux/securebits.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_READ_SEARCH = 2
# linux/sched.h
CLONE_NEWUSER = 0x10000000
CAP_VERSION_3 = 0x20080522


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


def _keep_only(capability: int) -> None:
    """Drop every capability of this process except one, and pass that one on to the next program."""
    mask = 1 << capability
    data = (_CapData * 2)(_CapData(mask, mask, mask), _CapData(0, 0, 0))
    _check(_libc.capset(ctypes.byref(_CapHeader(CAP_VERSION_3, 0)), data), "capset")
    _prctl("PR_CAP_AMBIENT_RAISE", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def drop_root(uid: int, *, search: bool) -> None:
    """Change to the user ``uid`` and the group with the same id, irreversibly.

    Args:
        uid: any id except 0; it needs no entry in the user database.
        search: keep the capability to read and search all folders.
    """
    if search:
        # Without this bit setresuid clears the capabilities, and access(2) ignores them.
        _prctl("PR_SET_SECUREBITS", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if search:
        _keep_only(CAP_DAC_READ_SEARCH)


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
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--appear-as", type=int)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    if options.uid:
        drop_root(options.uid, search=options.search)
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
