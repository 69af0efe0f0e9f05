"""Builds templates in layers: a minimal Debian, and over it what each caller adds.

<path>/builds/<name>-<digest>-<time>/rootfs, manifest.json     one build, never changed again; see ``layers``
<path>/templates/<name>                                        a link to the newest
<path>/templates/.<name>                                       a link to a layer that only other builds stand on

A build borrows the package sources, the network and the downloads of this host. They lie in a file system in memory,
which ends with the build, so none of it can stay in the template.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from myctobot.contract import file_locks
from myctobot.contract.names import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.errors import ProviderError
from shards.providers.lxc.chroot import QUICK_DPKG, Chroot, kill_inside, opened
from shards.providers.lxc.commands import run
from shards.providers.lxc.downloads import CACHE, Downloads, downloads
from shards.providers.lxc.layers import Manifest, layers, manifest, mount_over
from shards.providers.lxc.records import PASS_THROUGH, places, read_record
from shards.providers.lxc.storage import unmount_below

SUITE = "bookworm"
# Enough to boot, to be reached and to isolate an agent; the caller's configuration brings anything else.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "openssh-server", "python3", "ca-certificates", "bubblewrap"),
)
BASE = ".base"
_BOOTSTRAP_TIMEOUT_S = 1200
_APT_TIMEOUT_S = 900
_SYNC_TIMEOUT_S = 300
# The way of building belongs to what goes into a build, so other code means another build.
_CODE = ("template.py", "chroot.py", "layers.py")

Configure = Callable[[Chroot], None]


@dataclass(frozen=True)
class Recipe:
    """The inputs of one layer.

    Attributes:
        below: the name of the layer that it adds to; none for the base.
        configure: changes it, while it can reach what this host reaches; see ``Chroot``.
        packages: Debian packages in addition to ``PACKAGES``.
        inputs: names everything that ``configure`` depends on, such as a digest of a role.
        sources: the state of the package sources, for callers who want no older packages; the base goes by it too.
        is_fresh: builds even if the inputs are the same.
    """

    below: str = BASE
    configure: Configure | None = None
    packages: Sequence[str] = ()
    inputs: str = ""
    sources: str = ""
    is_fresh: bool = False


def build(
    root: Path, name: str, *, configure: Configure | None = None, packages: Sequence[str] = (), inputs: str = "",
    sources: str = "", below: str = BASE, again: bool = False,
) -> Manifest:  # fmt: skip
    """Build the template ``name`` unless one with the same inputs exists.

    Args:
        root: LXC_PATH.
        configure, packages, inputs, sources, below: see ``Recipe``.
        again: build even so.
    """
    if not is_slug(name):
        raise InvalidRequest("This is no name of a template.", fields={"name": ["Give a lower-case slug."]})
    return build_layer(root, name, Recipe(below, configure, packages, inputs, sources, again))


def build_layer(root: Path, name: str, recipe: Recipe) -> Manifest:
    """Make a layer as ``build`` does; one whose name begins with a dot is no template, and other builds add to it."""
    below = _below(root, recipe)
    digest = digest_of(recipe, below)
    folder = root / "builds"
    folder.mkdir(mode=PASS_THROUGH, parents=True, exist_ok=True)
    with file_locks.held(folder / f".{name}.lock"):
        present = manifest(root / "templates" / name)
        if present is not None and present.digest == digest and not recipe.is_fresh:
            return present
        draft = folder / f".{name}.new"
        _discard(draft)
        try:
            with downloads(CACHE) as downloaded:
                planned = Manifest(name, digest, SUITE, "", {}, [str(one) for one in below])
                made = _make(draft, planned, recipe, downloaded)
            _publish(root, draft, made)
        finally:
            _discard(draft)
    # An older build may have been the last that needed an older layer.
    for one in filter(None, (name, recipe.below, BASE)):
        prune(root, one)
    return made


def _below(root: Path, recipe: Recipe) -> list[Path]:
    """Find the builds that a layer adds to, the nearest first; the base is made if it is not there."""
    if not recipe.below:
        return []
    if recipe.below == BASE:
        build_layer(root, BASE, Recipe(below="", sources=recipe.sources))
    link = root / "templates" / recipe.below
    if manifest(link) is None:
        raise ProviderError(f"There is no layer '{recipe.below}' to add to.")
    return [folder.parent for folder in layers(link.resolve())]


def digest_of(recipe: Recipe, below: Sequence[Path]) -> str:
    """Digest all that goes into a layer on top of these builds."""
    named = (SUITE, *PACKAGES, *sorted(recipe.packages), recipe.inputs, recipe.sources)
    found = hashlib.sha256("\n".join(named).encode())
    for name in _CODE:
        found.update((Path(__file__).parent / name).read_bytes())
    # A build's folder names the moment when it was made, so a newer layer below means another build.
    found.update("\n".join(folder.name for folder in below).encode())
    return found.hexdigest()[:12]


def prune(root: Path, name: str) -> None:
    """Remove builds of a name that no container, no link and no other build needs; a build under way does it itself."""
    builds = root / "builds"
    if not builds.is_dir():
        return
    # A build has its link only a moment after its name.
    with suppress(BlockingIOError), file_locks.held(builds / f".{name}.lock", wait=False):
        needed = {Path(record.template) for place in places(root) if (record := read_record(place))}
        needed |= {link.resolve() for link in (root / "templates").glob("*") if link.exists()}
        # Drafts count too, since their manifests are written first.
        found = {folder.resolve(): manifest(folder) for folder in builds.iterdir() if folder.is_dir()}
        needed |= {Path(below) for one in found.values() if one for below in one.below}
        for folder, one in found.items():
            if one is not None and one.name == name and one.built_at and folder not in needed:
                _discard(folder)


def remove(root: Path, name: str) -> None:
    """Remove a template; its containers continue to run."""
    (root / "templates" / name).unlink(missing_ok=True)
    prune(root, name)


# --- Steps ----------------------------------------------------------------------------------------------------


def _make(draft: Path, planned: Manifest, recipe: Recipe, downloaded: Downloads | None) -> Manifest:
    draft.mkdir(mode=PASS_THROUGH)
    draft.chmod(PASS_THROUGH)
    _write(draft, planned)
    rootfs, root = draft / "rootfs", draft / "whole"
    if planned.below:
        mount_over([Path(one) / "rootfs" for one in planned.below], rootfs, root)
    else:
        _bootstrap(rootfs, downloaded)
        root = rootfs
    if recipe.packages or recipe.is_fresh or recipe.configure or not planned.below:
        with opened(root, downloaded.folder if downloaded else None) as chroot:
            _install(chroot, recipe.packages)
            if recipe.configure is not None:
                recipe.configure(chroot)
    clean(root)
    made = replace(planned, built_at=datetime.now(UTC).isoformat(), packages=_versions(root))
    if planned.below:
        run("umount", str(root))
        root.rmdir()
        shutil.rmtree(draft / "work")
    _write(draft, made)
    # All at once, before it gets its name.
    run("sync", "--file-system", str(draft), timeout_s=_SYNC_TIMEOUT_S)
    return made


def _bootstrap(rootfs: Path, downloaded: Downloads | None) -> None:
    kept = (f"--cache-dir={downloaded.packages}",) if downloaded else ()
    include = ",".join(PACKAGES)
    command = ("debootstrap", "--variant=minbase", f"--include={include}", *kept, SUITE, str(rootfs), mirror())
    run(*command, timeout_s=_BOOTSTRAP_TIMEOUT_S, environment=QUICK_DPKG)


def _write(draft: Path, made: Manifest) -> None:
    (draft / "manifest.json").write_text(json.dumps(asdict(made), indent=1), encoding="utf-8")


def _publish(root: Path, draft: Path, made: Manifest) -> None:
    """Move the build to its final folder and switch the link to it atomically."""
    stamp = datetime.fromisoformat(made.built_at).strftime("%Y%m%d%H%M%S%f")
    final = draft.parent / f"{made.name}-{made.digest}-{stamp}"
    draft.rename(final)
    (root / "templates").mkdir(mode=PASS_THROUGH, exist_ok=True)
    link = root / "templates" / f".{made.name}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(final)
    link.replace(root / "templates" / made.name)


def _install(chroot: Chroot, packages: Sequence[str]) -> None:
    """Upgrade all packages and install additional ones."""
    apt = ("apt-get", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold")
    chroot.run("apt-get", "-q", "update", timeout_s=_APT_TIMEOUT_S)
    chroot.run(*apt, "dist-upgrade", timeout_s=_APT_TIMEOUT_S)
    if packages:
        chroot.run(*apt, "install", *packages, timeout_s=_APT_TIMEOUT_S)


def mirror() -> str:
    """Return the mirror of the suite in this host's package sources.

    Raises:
        ProviderError: there is no such source.
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
    """Remove files that belong to one machine or name the sources of the build."""
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
    # With an empty file, each container gets its own id at its first start.
    (rootfs / "etc/machine-id").write_text("")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _discard(folder: Path) -> None:
    """Delete a folder, with processes and mounts that a killed build left in it."""
    if folder.exists():
        kill_inside(folder)
        unmount_below(folder)
        shutil.rmtree(folder)
