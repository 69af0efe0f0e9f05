"""Builds templates: a minimal Debian, what a caller does to it, and a record of what it holds.

<path>/builds/<name>-<digest>/rootfs, manifest.json     one build, never changed again
<path>/templates/<name>                                 a link to the newest

What the build borrows of this host (its package sources, its way out) lies in a file system in memory that ends with
the build, so none of it can stay in the template.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from myctobot.contract.jobs import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.errors import ProviderError
from shards.providers.lxc.chroot import Chroot, kill_inside, opened
from shards.providers.lxc.commands import run
from shards.providers.lxc.records import PASS_THROUGH, places, read_record
from shards.providers.lxc.storage import unmount_below

CACHE = Path("/var/cache/myctobot")
SUITE = "bookworm"
# What boots, is reached and can isolate an agent; anything else is the business of who configures it.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "openssh-server", "python3", "ca-certificates", "bubblewrap"),
)
_BOOTSTRAP_TIMEOUT_S = 1200
_APT_TIMEOUT_S = 900
_COPY_TIMEOUT_S = 600

Configure = Callable[[Chroot], None]


@dataclass(frozen=True)
class Manifest:
    """What a template is made of.

    Attributes:
        digest: of its inputs; the same inputs need no new build.
        packages: every Debian package with its version.
    """

    name: str
    digest: str
    suite: str
    built_at: str
    packages: dict[str, str]


def build(
    root: Path, name: str, *, configure: Configure | None = None, packages: Sequence[str] = (), inputs: str = "",
    again: bool = False, cache: Path = CACHE,
) -> Manifest:  # fmt: skip
    """Make the template ``name`` unless there is one of the same inputs.

    Args:
        root: LXC_PATH.
        configure: changes it, while it can reach what this host reaches; see ``Chroot``.
        packages: Debian packages beside ``PACKAGES``.
        inputs: whatever ``configure`` goes by, such as a digest of a role.
        again: build even so.
    """
    if not is_slug(name):
        raise InvalidRequest("This is no name of a template.", fields={"name": ["Give a lower-case slug."]})
    wanted = "\n".join((SUITE, *PACKAGES, *sorted(packages), inputs))
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    folder = root / "builds"
    folder.mkdir(mode=PASS_THROUGH, parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        present = manifest(root / "templates" / name)
        if present is not None and present.digest == digest and not again:
            return present
        draft = folder / f".{name}.new"
        _discard(draft)
        try:
            made = _make(draft, name, digest, packages, configure, again, cache)
            _publish(root, draft, made)
        finally:
            _discard(draft)
    prune(root, name)
    return made


def manifest(folder: Path) -> Manifest | None:
    """What a template's folder says of itself."""
    try:
        return Manifest(**json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def prune(root: Path, name: str) -> None:
    """Remove builds of a template that no container was made from and no link leads to."""
    used = {record.template for place in places(root) if (record := read_record(place))}
    link = root / "templates" / name
    current = link.resolve() if link.exists() else None
    for build_folder in (root / "builds").glob(f"{name}-*"):
        found = manifest(build_folder)
        if found is not None and found.name == name and build_folder != current and str(build_folder) not in used:
            _discard(build_folder)


def remove(root: Path, name: str) -> None:
    """Forget a template; containers that were made from it go on."""
    (root / "templates" / name).unlink(missing_ok=True)
    prune(root, name)


# --- Steps ----------------------------------------------------------------------------------------------------


def _make(
    draft: Path, name: str, digest: str, packages: Sequence[str], configure: Configure | None, again: bool, cache: Path
) -> Manifest:  # fmt: skip
    rootfs = draft / "rootfs"
    draft.mkdir(mode=PASS_THROUGH)
    draft.chmod(PASS_THROUGH)
    run("cp", "--archive", "--reflink=auto", str(_base(cache)), str(rootfs), timeout_s=_COPY_TIMEOUT_S)
    with opened(rootfs) as chroot:
        if packages or again or configure:
            _install(chroot, packages)
        if configure is not None:
            configure(chroot)
    clean(rootfs)
    made = Manifest(name, digest, SUITE, datetime.now(UTC).isoformat(), _versions(rootfs))
    (draft / "manifest.json").write_text(json.dumps(asdict(made), indent=1), encoding="utf-8")
    return made


def _publish(root: Path, draft: Path, made: Manifest) -> None:
    """Give the build its place and let the name lead to it, at once."""
    stamp = datetime.fromisoformat(made.built_at).strftime("%Y%m%d%H%M%S%f")
    final = draft.parent / f"{made.name}-{made.digest}-{stamp}"
    draft.rename(final)
    (root / "templates").mkdir(mode=PASS_THROUGH, exist_ok=True)
    link = root / "templates" / f".{made.name}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(final)
    link.replace(root / "templates" / made.name)


def _base(cache: Path) -> Path:
    """The minimal system, bootstrapped once and kept."""
    digest = hashlib.sha256("\n".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    base = cache / f"{SUITE}-{digest}"
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (cache / f".{base.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if base.is_dir():
            return base
        draft = cache / f".{base.name}.new"
        _discard(draft)
        try:
            include = ",".join(PACKAGES)
            command = ("debootstrap", "--variant=minbase", f"--include={include}", SUITE, str(draft), mirror())
            run(*command, timeout_s=_BOOTSTRAP_TIMEOUT_S)
            with opened(draft) as chroot:
                _install(chroot, ())
            clean(draft)
            draft.rename(base)
        finally:
            _discard(draft)
    return base


def _install(chroot: Chroot, packages: Sequence[str]) -> None:
    """Bring everything up to date, and add packages."""
    apt = ("apt-get", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold")
    chroot.run("apt-get", "-q", "update", timeout_s=_APT_TIMEOUT_S)
    chroot.run(*apt, "dist-upgrade", timeout_s=_APT_TIMEOUT_S)
    if packages:
        chroot.run(*apt, "install", *packages, timeout_s=_APT_TIMEOUT_S)


def mirror() -> str:
    """Where this host gets the suite from, by its own package sources.

    Raises:
        ProviderError: it has no such source.
    """
    listed = run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages")
    for line in listed.splitlines():
        site, _, release = line.strip().partition(" ")
        if release == SUITE:
            return site
    raise ProviderError(f"The package sources of this host have no Debian {SUITE}; add one in /etc/apt/sources.list.d.")


def _versions(rootfs: Path) -> dict[str, str]:
    listed = run("dpkg-query", f"--admindir={rootfs}/var/lib/dpkg", "--show", "--showformat=${Package} ${Version}\n")
    return dict(line.split(" ", 1) for line in listed.splitlines())


def clean(rootfs: Path) -> None:
    """Take away what belongs to one machine, and all that names where the build got things from."""
    for pattern in (
        *("etc/ssh/ssh_host_*", "root/.ssh", "root/.ansible", "root/.cache", "root/.*_history", "home/*/.cache"),
        *("var/lib/apt/lists/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/cache/ldconfig/aux-cache"),
        *("etc/resolv.conf", "etc/hostname", "etc/hosts", "etc/apt/sources.list", "etc/apt/sources.list.d/*"),
        *("etc/apt/apt.conf", "etc/pip.conf", "root/.pip", "root/.config/pip", "root/.npmrc", "tmp/*", "tmp/.[!.]*"),
        *(
            "var/tmp/*",
            "run/*",
            "dev/*",
            "var/lib/systemd/random-seed",
            "usr/sbin/policy-rc.d",
            "var/lib/dbus/machine-id",
        ),
    ):
        for path in rootfs.glob(pattern):
            _delete(path)
    for log in (rootfs / "var/log").rglob("*"):
        if log.is_file() and not log.is_symlink():
            log.unlink()
    # Empty: each container gets its own when it first starts.
    (rootfs / "etc/machine-id").write_text("")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _discard(folder: Path) -> None:
    """Delete a folder and whatever a build that was killed left running or mounted in it."""
    if folder.exists():
        kill_inside(folder)
        unmount_below(folder)
        shutil.rmtree(folder)
