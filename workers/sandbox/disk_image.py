"""File system of one job, with bounds on its size and on its number of files.

It is in a sparse file without a name, behind a loop device that the kernel removes with the last mount. The runner
mounts it in a mount namespace of its own. So nothing is left when the runner ends in any way, and no agent can reach
the file or the device.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from workers.errors import JobError
from workers.sandbox.limits import MB, ResourceLimits

# ext4 needs this much space for a file's data and its entry in the inode table.
MAX_FILES_PER_MB: Final = 128
# A job counts as ended by a bound when less than this is left of it: the smaller of the number and the part.
MARGIN_BYTES: Final = 8 * MB
MARGIN_FILES: Final = 100
MARGIN_PART: Final = 64
TOOLS: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
FORMAT_TIMEOUT_S: Final = 60
MAX_TRIES: Final = 64
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
# Start of the name of the folder in which an image is tried.
CHECK: Final = "image-check-"
_MOUNT_POINT: Final = re.compile(rf"job_[a-z0-9]+\.[0-9]+|{CHECK}.+")
LOOP_CONTROL: Final = Path("/dev/loop-control")
LOOP_DEVICE: Final = "/dev/loop"
# Of a large image, a single piece of the file system's tables may be large too.
_COPY_BYTES: Final = MB
# linux/loop.h
_LOOP_CONFIGURE: Final = 0x4C0A
_LOOP_CTL_GET_FREE: Final = 0x4C82
_LO_FLAGS_AUTOCLEAR: Final = 4
# linux/mount.h and linux/sched.h
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOATIME: Final = 1024
_MS_REC: Final = 16384
_MS_SLAVE: Final = 1 << 19
_MNT_DETACH: Final = 2
_CLONE_NEWNS: Final = 0x20000
# No reader needs the files after a crash, so writes may reach the disk in any order.
_OPTIONS: Final = b"nobarrier,noinit_itable,errors=remount-ro"
_FEATURES: Final = "^has_journal,^resize_inode"
_libc = ctypes.CDLL(None, use_errno=True)


class DiskImage:
    """Mounted file system of one job.

    Args:
        directory: empty folder on which it is mounted.
        limits: bounds of the job; ``disk_mb`` and ``disk_files`` apply.
        in_memory: keep the image in memory instead of on the disk around ``directory``.

    Raises:
        JobError: ``sandbox_failed``, the image cannot be made or mounted.
        OSError: the disk is full.
    """

    def __init__(self, directory: Path, limits: ResourceLimits, *, in_memory: bool = False) -> None:
        self._directory, self._limits = directory, limits
        try:
            _mount_new(os.memfd_create("image") if in_memory else _nameless_file(directory.parent), directory, limits)
            self._root: int | None = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            directory.chmod(0o711)
        except (OSError, subprocess.TimeoutExpired) as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise
            message = f"The disk image of the job could not be made on this shard: {error}"
            raise JobError("sandbox_failed", f"{message}; ask an operator to check it.", retryable=True) from error

    def reached_bound(self) -> str | None:
        """Return the bound that the job has reached, or None."""
        if self._root is None:
            return None
        found = os.fstatvfs(self._root)
        if found.f_bavail * found.f_frsize < min(MARGIN_BYTES, found.f_blocks * found.f_frsize // MARGIN_PART):
            return f"its bound of {self._limits.disk_mb:,} MB on disk (sandbox.disk_mb)"
        if found.f_favail < min(MARGIN_FILES, found.f_files // MARGIN_PART):
            return f"its bound of {self._limits.disk_files:,} files on disk (sandbox.disk_files)"
        return None

    @property
    def bounds(self) -> str:
        """Both bounds, for a sentence."""
        limits = self._limits
        return (
            f"its bounds of {limits.disk_mb:,} MB (sandbox.disk_mb) and {limits.disk_files:,} files "
            "(sandbox.disk_files) on disk"
        )

    def descriptor(self) -> int | None:
        """Return a new descriptor of the file system for ``sync``, or None after ``close``."""
        return None if self._root is None else os.dup(self._root)

    def close(self) -> None:
        """Unmount the file system, which deletes everything in it; the method may be called again."""
        if self._root is None:
            return
        os.close(self._root)
        self._root = None
        unmount(self._directory)


def sync(descriptor: int) -> None:
    """Write what the kernel keeps in memory of a file system into its image, and close the descriptor.

    Only then does the free space of the shard's disk contain what the job wrote.
    """
    try:
        # An error appears as a shortage on the shard's disk, which the caller watches.
        _libc.syncfs(descriptor)
    finally:
        os.close(descriptor)


def probe(workspaces: Path, run_path: Path, limits: ResourceLimits) -> str:
    """Make, mount and remove an image as for a job, but in memory: a full disk must not change the result.

    Args:
        workspaces: folder of the jobs.
        run_path: folder of the shard's state.
        limits: bounds of a job.

    Returns:
        The reason why jobs cannot have images here; empty if they can.
    """
    if os.geteuid() != 0:
        return "only root can mount a disk image"
    if not LOOP_CONTROL.exists():
        return f"this machine has no loop devices ({LOOP_CONTROL} is missing)"
    workspaces.mkdir(mode=0o711, parents=True, exist_ok=True)
    run_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=CHECK, dir=run_path) as directory:
        try:
            os.close(_nameless_file(workspaces))
        except OSError as error:
            if error.errno not in NO_SPACE:
                return f"the disk of {workspaces} has no files without a name: {error.strerror}"
        try:
            DiskImage(Path(directory), limits, in_memory=True).close()
        except JobError as error:
            return str(error)
    return ""


def enter_private_mounts() -> None:
    """Give the calling process, and what it starts from now on, a mount namespace of its own.

    Its later mounts are invisible outside and end with its last process. Mounts of the machine still appear in it. Call
    it before the process has other threads, because they would keep the old namespace.

    Raises:
        OSError: the kernel refused.
    """
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise _error("a mount namespace cannot be made")
    if _libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None) != 0:
        raise _error("mounts cannot be kept private")


def unmount_leftovers(workspaces: Path, run_path: Path) -> int:
    """Unmount the images that an earlier process of a shard left mounted; return their number.

    Images of live runners are in namespaces of their own and stay.

    Raises:
        OSError: the kernel refused.
    """
    if os.geteuid() != 0:
        return 0
    mountinfo = Path("/proc/self/mountinfo").read_text()
    points = [point for folder in (workspaces, run_path) for point in image_mounts(mountinfo, str(folder.absolute()))]
    for point in points:
        unmount(Path(point))
    for directory in run_path.glob(f"{CHECK}*"):
        with suppress(OSError):
            directory.rmdir()
    return len(points)


def image_mounts(mountinfo: str, folder: str) -> list[str]:
    """Return the mount points of images directly below a folder.

    Args:
        mountinfo: text of ``/proc/self/mountinfo``.
        folder: absolute path of the folder.
    """
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        point = _unescape(left.split()[4])
        kind, source = right.split()[:2]
        is_image = kind == "ext4" and source.startswith(LOOP_DEVICE)
        # An operator may mount other things there, which must stay.
        if is_image and str(Path(point).parent) == folder and _MOUNT_POINT.fullmatch(Path(point).name):
            found.append(point)
    return found


def _unescape(text: str) -> str:
    # The kernel writes blanks and backslashes in octal.
    for code in ("\\040", "\\011", "\\012", "\\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text


def unmount(directory: Path) -> None:
    """Detach a mount at once; the kernel ends it with its last user.

    Raises:
        OSError: nothing is mounted there.
    """
    if _libc.umount2(os.fsencode(directory), _MNT_DETACH) != 0:
        raise _error(f"{directory} cannot be unmounted")


def _nameless_file(folder: Path) -> int:
    """Make a file that the kernel deletes with its last descriptor."""
    return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _mount_new(image: int, directory: Path, limits: ResourceLimits) -> None:
    """Format a file, mount it and close the descriptor; the loop device then has the only one."""
    try:
        _format(image, limits)
        device, name = _attach(image)
    finally:
        os.close(image)
    try:
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOATIME
        if _libc.mount(name.encode(), os.fsencode(directory), b"ext4", flags, _OPTIONS) != 0:
            raise _error("the image cannot be mounted")
    finally:
        # The kernel removes the device when neither a mount nor a descriptor uses it.
        os.close(device)


def _format(image: int, limits: ResourceLimits) -> None:
    # mkfs waits until the disk has its data, which can take longer than all the rest. So it works in memory.
    draft = os.memfd_create("image")
    try:
        for file in (draft, image):
            os.ftruncate(file, limits.disk_mb * MB)
        _make_file_system(draft, limits.disk_files)
        _copy_data(draft, image)
    finally:
        os.close(draft)


def _copy_data(source: int, target: int) -> None:
    """Copy all of a sparse file but its holes."""
    end = 0
    while True:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        while start < end:
            start += os.pwrite(target, os.pread(source, min(end - start, _COPY_BYTES), start), start)


def _make_file_system(image: int, files: int) -> None:
    program = shutil.which("mkfs.ext4", path=TOOLS)
    if program is None:
        raise OSError(errno.ENOENT, "mkfs.ext4 is not installed; install the package 'e2fsprogs'")
    # The sparse file is all zeros already, so neither discarding nor zeroing has anything to do.
    options = ["-b", "4096", "-I", "256", "-m", "0", "-N", str(files), "-O", _FEATURES]
    done = subprocess.run(
        [program, "-q", "-F", *options, "-E", "lazy_itable_init=1,nodiscard", f"/proc/self/fd/{image}"],
        env={"PATH": TOOLS, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        pass_fds=[image],
        timeout=FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise OSError(errno.EIO, f"mkfs.ext4 failed: {lines[-1]}")


def _attach(image: int) -> tuple[int, str]:
    """Attach a file to a free loop device; return the device's descriptor and path."""
    # struct loop_config of linux/loop.h: the file, the block size, struct loop_info64 and reserved space.
    info = struct.pack("=5Q4I64s64s32s2Q", *[0] * 8, _LO_FLAGS_AUTOCLEAR, b"", b"", b"", 0, 0)
    config = struct.pack("=II", image, 0) + info + bytes(64)
    for _ in range(MAX_TRIES):
        with LOOP_CONTROL.open("rb") as control:
            name = f"{LOOP_DEVICE}{fcntl.ioctl(control.fileno(), _LOOP_CTL_GET_FREE)}"
        device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(device)
            # Another process took the same device first.
            if error.errno != errno.EBUSY:
                raise
        else:
            return device, name
    raise OSError(errno.EBUSY, "no loop device is free")


def _error(message: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{message}: {os.strerror(number)}")
