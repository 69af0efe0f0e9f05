"""Filter of an agent's system calls, as a program for the kernel; pure.

The program is classic BPF in the format of linux/filter.h, and its input is ``struct seccomp_data`` of
linux/seccomp.h; see also Documentation/userspace-api/seccomp_filter.rst of the kernel's source. bubblewrap installs it
right before it starts the agent, and the kernel applies it to all its children.

System calls are denied by name, not allowed by name: agents run any program of their projects. The list has what opens
more of the kernel than a program needs, and what reaches beyond the job. The numbers are those of
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

# linux/bpf_common.h: load a 32-bit word of the input, jump if equal or if bits are set, compute "and", return.
LOAD: Final = 0x20
JUMP_EQUAL: Final = 0x15
JUMP_GREATER_OR_EQUAL: Final = 0x35
AND: Final = 0x54
RETURN: Final = 0x06

# linux/seccomp.h
KILL_PROCESS: Final = 0x80000000
ERRNO: Final = 0x00050000
ALLOW: Final = 0x7FFF0000
NUMBER: Final = 0
ARCHITECTURE: Final = 4
# Both architectures are little-endian, so the lower half of an argument comes first.
ARGUMENTS: Final = 16

# linux/audit.h
AUDIT_ARCH: Final[Mapping[str, int]] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# The x32 interface of x86_64 has this bit in its numbers; no distribution enables it by default.
X32_BIT: Final = 0x40000000

# linux/sched.h: a new namespace of any kind. The time namespace has no flag in clone.
NAMESPACES: Final = 0x7E020000
# linux/socket.h: UNIX, IPv4 and IPv6.
FAMILIES: Final = (1, 2, 10)
NETLINK: Final = 16
# glibc lists interfaces and addresses with this protocol only; getaddrinfo needs it.
NETLINK_ROUTE: Final = 0

# Each name with its number on x86_64 and on aarch64; None where it does not exist.
DENIED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    # Namespaces and mounts.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "statmount": (457, 457), "listmount": (458, 458), "open_tree_attr": (467, 467),
    "open_by_handle_at": (304, 265), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    # Keyrings.
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # Large parts of the kernel that ordinary programs do not need.
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18), "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None),
    "_sysctl": (156, None), "modify_ldt": (154, None), "nfsservctl": (180, 42),
    # Other processes.
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    # The machine.
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "create_module": (174, None),
    "get_kernel_syms": (177, None), "query_module": (178, None), "reboot": (169, 142), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "vhangup": (153, 58),
}  # fmt: skip
CLONE: Final = (56, 220)
# clone3 has its flags in memory, which a filter cannot read. With ENOSYS, programs use clone instead.
CLONE3: Final = (435, 435)
SOCKET: Final = (41, 198)
SOCKETPAIR: Final = (53, 199)
# Calls with higher numbers are newer than this list. With ENOSYS, programs use what older kernels have.
LAST_KNOWN: Final = 467


@dataclass
class FilterProgram:
    """Instructions of a filter, in the order of their execution."""

    instructions: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, code: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        self.instructions.append((code, if_true, if_false, value))

    def end(self, action: int) -> None:
        self.add(RETURN, action)

    def encode(self) -> bytes:
        """Return the program as an array of ``struct sock_filter``."""
        return b"".join(struct.pack("<HBBI", *instruction) for instruction in self.instructions)


def deny(number: int = errno.EPERM) -> int:
    """Return the action that makes a system call fail with this error."""
    return ERRNO | number


def program(machine: str) -> bytes:
    """Return the filter for a machine; a call with the numbers of another architecture kills the process.

    Args:
        machine: its name as in ``uname -m``.

    Raises:
        ValueError: there is no filter for this machine.
    """
    if machine not in AUDIT_ARCH:
        raise ValueError(f"there is no filter of system calls for {machine}; use x86_64 or aarch64")
    column = list(AUDIT_ARCH).index(machine)
    made = FilterProgram()
    made.add(LOAD, ARCHITECTURE)
    made.add(JUMP_EQUAL, AUDIT_ARCH[machine], if_true=1)
    made.end(KILL_PROCESS)
    made.add(LOAD, NUMBER)
    if machine == "x86_64":
        made.add(JUMP_GREATER_OR_EQUAL, X32_BIT, if_false=1)
        made.end(KILL_PROCESS)
    made.add(JUMP_GREATER_OR_EQUAL, LAST_KNOWN + 1, if_false=1)
    made.end(deny(errno.ENOSYS))
    _when(made, [CLONE3[column]], deny(errno.ENOSYS))
    denied = [numbers[column] for numbers in DENIED.values()]
    _when(made, sorted(number for number in denied if number is not None), deny())
    _check_clone(made, CLONE[column])
    for call in (SOCKET, SOCKETPAIR):
        _check_socket(made, call[column])
    made.end(ALLOW)
    return made.encode()


def _when(made: FilterProgram, values: Iterable[int], action: int) -> None:
    """End with an action if the loaded word is one of these values."""
    for value in values:
        made.add(JUMP_EQUAL, value, if_false=1)
        made.end(action)


def _load_argument(made: FilterProgram, index: int) -> None:
    made.add(LOAD, ARGUMENTS + 8 * index)


def _check_clone(made: FilterProgram, number: int) -> None:
    made.add(JUMP_EQUAL, number, if_false=5)
    _load_argument(made, 0)
    made.add(AND, NAMESPACES)
    made.add(JUMP_EQUAL, 0, if_true=1)
    made.end(deny())
    made.end(ALLOW)


def _check_socket(made: FilterProgram, number: int) -> None:
    """Allow the known families, and netlink only with the protocol that glibc uses."""
    made.add(JUMP_EQUAL, number, if_false=len(FAMILIES) * 2 + 6)
    _load_argument(made, 0)
    _when(made, FAMILIES, ALLOW)
    made.add(JUMP_EQUAL, NETLINK, if_false=3)
    _load_argument(made, 2)
    made.add(JUMP_EQUAL, NETLINK_ROUTE, if_false=1)
    made.end(ALLOW)
    made.end(deny(errno.EAFNOSUPPORT))
