"""Life of a shard with the provider ``proxmox``: a stand-in for the API, real containers and the real agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from shards.providers.base import NullJournal
from shards.providers.lxc.archive import export
from shards.providers.lxc.commands import run
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider
from shards.providers.proxmox.naming import Ref
from tests.fixtures.proxmox.driven import ARCHIVE, add_template
from tests.fixtures.proxmox.real import LxcBackend
from tests.fixtures.proxmox.server import StandIn, stand_in
from tests.fixtures.proxmox.world import SECRET, USER
from tests.fixtures.repos import branches, git

from .inside import inside, make_key_pair, output, wait_active
from .world import World, own_folder, running_world

TEMPLATE = 9000
MADE = {"bridge": "mctbx0", "net": "10.223.0.0/24"}
FIRST_ID = 300_000_000
# The options are those of restore_tar_archive in pve-container and COMMON_TAR_FLAGS in pve-storage.
UNPACK = (
    *("--zstd", "--totals", "--one-file-system", "-p", "--sparse", "--numeric-owner", "--acls", "--xattrs"),
    *("--xattrs-include=user.*", "--xattrs-include=security.capability", "--warning=no-file-ignored"),
    *("--warning=no-xattr-write", "--skip-old-files", "--anchored", "--exclude=./dev/*"),
)


@dataclass(frozen=True)
class ProxmoxStack:
    """Stack, the stand-in for Proxmox that it calls, and the real containers."""

    world: World
    standin: StandIn
    backend: LxcBackend

    def real(self, shard: str) -> str:
        """Return the real container of a shard."""
        return self.backend.refs[Ref.of(self.world.shard(shard)["ref"]).vmid]

    def add(self, shard: str) -> str:
        """Request a shard and wait; return the error output."""
        what = ("--template", "general", "--provider", "proxmox", "--provision", "--wait")
        return self.world.manage("shards", "add", shard, *what, check=False).stderr

    def left(self) -> list[str]:
        """Return the containers and mounts that exist besides the template, in the stand-in and on this host."""
        found = [f"CT {vmid}" for vmid in self.standin.world.containers if vmid != TEMPLATE]
        containers = self.world.maker.host.path / "containers"
        found += [path.name for path in containers.glob("[!.]*")]
        return [*found, *[line for line in Path("/proc/mounts").read_text().splitlines() if str(containers) in line]]


def unpack(host: LxcHost, folder: Path) -> str:
    """Export the template, unpack the archive into another one as pve-container does, and return its name."""
    made = export(host.path, "general", folder / "general.tar.zst")
    rootfs = host.path / "templates" / "unpacked" / "rootfs"
    rootfs.mkdir(mode=0o755, parents=True)
    (host.path / "templates" / "unpacked").chmod(0o711)
    run("tar", "xpf", str(made.path), *UNPACK, "-C", str(rootfs), timeout_s=120)
    made.path.unlink()
    return "unpacked"


@contextmanager
def proxmox(host: LxcHost, folder: Path, release: str, source: str) -> Iterator[tuple[StandIn, LxcBackend]]:
    """Start a stand-in of one version of Proxmox; ``source`` is the source of the template ``general``."""
    template = "general" if source.isdigit() else unpack(host, folder)
    public = make_key_pair(folder / "key")
    (folder / "key.pub").write_text(public)
    backend = LxcBackend(LxcProvider(replace(host, owner="pve", authorized_keys=public)), template)
    with stand_in(folder / "certificates", backend) as standin:
        standin.world.release = release
        add_template(standin, TEMPLATE)
        try:
            yield standin, backend
        finally:
            for one in backend.maker.list():
                backend.maker.destroy(one.ref, NullJournal())
    assert not standin.wrong_answers


def settings(standin: StandIn, folder: Path, address: str, source: str) -> dict[str, str]:
    """Return the settings that ``docs/proxmox.md`` describes."""
    (folder / "secret").touch(mode=0o600)
    (folder / "secret").write_text(f"{SECRET}\n")
    return {
        "PROXMOX_URL": standin.url,
        "PROXMOX_TOKEN_ID": USER,
        "PROXMOX_TOKEN_SECRET_FILE": str(folder / "secret"),
        "PROXMOX_NODE": "pve1",
        "PROXMOX_STORAGE": "local-zfs",
        "PROXMOX_BRIDGE": "vmbr1",
        "PROXMOX_POOL": "shards",
        "PROXMOX_TEMPLATES": f"general={source}",
        "PROXMOX_CA_FILE": str(standin.certificates.authority),
        "PROXMOX_EGRESS": f"{address}:8000,{address}:8001,{address}:6379",
        "PROXMOX_SSH_FROM": f"{address}/32",
        "SHARD_SSH_KEY_FILE": str(folder / "key"),
        # Each container makes its own host key, on a bridge of this host.
        "SHARD_SSH_TRUST_FIRST_KEY": "true",
        "SHARD_PLAIN_NETWORKS": f"{address}/32",
    }


@pytest.fixture(scope="class")
def far(request: pytest.FixtureRequest) -> Iterator[ProxmoxStack]:
    release, source = request.cls.release, request.cls.source
    made: list[tuple[StandIn, LxcBackend]] = []
    with own_folder("pve-journey") as folder:

        @contextmanager
        def companion(host: LxcHost) -> Iterator[Mapping[str, str]]:
            with proxmox(host, folder, release, source) as (standin, backend):
                made.append((standin, backend))
                yield settings(standin, folder, str(host.address), source)

        with running_world(folder, **MADE, first_id=FIRST_ID, companion=companion) as world:
            yield ProxmoxStack(world, *made[0])


@pytest.fixture(scope="class")
def shard(far: ProxmoxStack) -> str:
    errors = far.add("one")
    assert far.world.shard("one")["state"] == "ready", errors
    return "one"


def steps(far: ProxmoxStack, shard: str) -> str:
    return far.world.manage("shards", "operations", shard, "--json").stdout


def run_job(far: ProxmoxStack, shard: str, branch: str) -> None:
    """Run a job in a shard, and check that its branch is pushed and that the agent was isolated."""
    path, url = far.world.remote(f"{branch}.git")
    job = far.world.client.run({"repo_url": url, "branch": branch, "prompt": f"WRITE hello.txt: {branch}"})
    assert job["status"] == "completed", job
    assert job["attempts"][-1]["shard"] == shard
    assert branch in branches(path)
    assert git(path, "show", f"{branch}:hello.txt") == branch
    assert not [event for event in far.world.client.events(job["id"]) if event["kind"] == "job.warning"]


class TestWithVariables:
    """Proxmox from 9.1: a container gets its token as a variable and is cloned from a template container."""

    release: ClassVar = "9.1"
    source: ClassVar = str(TEMPLATE)

    def test_the_provider_reports_no_problem(self, far: ProxmoxStack) -> None:
        assert "proxmox: works here" in far.world.manage("shards", "providers").stdout

    def test_a_new_shard_is_cloned_and_enrols(self, far: ProxmoxStack, shard: str) -> None:
        real = far.real(shard)
        assert wait_active(far.backend.maker, real, "claude-shard") == "active"
        assert f"MYCTOBOT_SHARD={shard}" in output(far.backend.maker, real, "cat", "/proc/1/environ")
        requests = far.standin.asked("PUT", "/config$")
        assert [one for one in requests if "MYCTOBOT_ENROL_TOKEN" in one.get("env", "")]
        assert "mcte_" not in steps(far, shard)

    def test_a_new_shard_has_the_limits_of_its_template(self, far: ProxmoxStack, shard: str) -> None:
        limits = far.backend.maker.status(far.real(shard))
        assert (limits.memory_mb, limits.disk_mb) == (512, 8192)

    def test_a_job_runs_in_the_shard_and_pushes_its_branch(self, far: ProxmoxStack, shard: str) -> None:
        run_job(far, shard, "first")

    def test_restore_repairs_a_damaged_container(self, far: ProxmoxStack, shard: str) -> None:
        far.world.operate("snapshot", shard, "good")
        maker, real = far.backend.maker, far.real(shard)
        output(maker, real, "rm", "-rf", "/opt/claude-shard")
        output(maker, real, "systemctl", "kill", "--signal=KILL", "claude-shard")
        assert inside(maker, real, "test", "-e", "/opt/claude-shard").returncode != 0
        far.world.operate("restore", shard, "good", "--force")
        run_job(far, shard, "again")

    def test_destroy_leaves_nothing_behind(self, far: ProxmoxStack, shard: str) -> None:
        far.world.operate("destroy", shard)
        assert far.world.shard(shard)["state"] == "gone"
        assert far.left() == []
        assert "shard-one" not in far.world.manage("broker_access", "show").stdout

    def test_a_full_storage_is_reported_in_the_words_of_proxmox(
        self, far: ProxmoxStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(far.standin.world.storages["local-zfs"], "total_mb", 4000)
        errors = far.add("full")
        assert "out of space on storage 'local-zfs'" in errors
        assert "Nothing is left of it" in errors
        self.check_not_made(far, "full", "out of space")

    def test_a_missing_privilege_is_named(self, far: ProxmoxStack, monkeypatch: pytest.MonkeyPatch) -> None:
        held = far.standin.world.rights.token
        monkeypatch.setitem(held, "/pool/shards", held["/pool/shards"] - {"VM.Snapshot"})
        assert "The token lacks VM.Snapshot on /vms/" in far.add("forbidden")
        self.check_not_made(far, "forbidden", "VM.Snapshot")

    def test_provision_succeeds_after_an_unreachable_node_returns(self, far: ProxmoxStack) -> None:
        far.standin.upset("POST", "/clone$", "595 No route to host")
        assert "Proxmox answers 595 (No route to host)" in far.add("away")
        self.check_not_made(far, "away", "595")
        far.world.operate("provision", "away")
        assert far.world.shard("away")["state"] == "ready"
        far.world.operate("destroy", "away")
        assert far.left() == []

    def check_not_made(self, far: ProxmoxStack, shard: str, why: str) -> None:
        row = far.world.shard(shard)
        assert (row["state"], row["ref"]) == ("requested", "")
        assert why in row["reason"]
        assert far.left() == []
        assert f"shard-{shard}" not in far.world.manage("broker_access", "show").stdout


class TestOverSsh:
    """Proxmox before 9.1: a container gets no variables, and Ansible configures it; its template is an archive."""

    release: ClassVar = "8.4"
    source: ClassVar = ARCHIVE

    def test_a_new_shard_is_unpacked_and_configured_by_ansible(self, far: ProxmoxStack, shard: str) -> None:
        real = far.real(shard)
        assert wait_active(far.backend.maker, real, "claude-shard") == "active"
        assert "MYCTOBOT" not in output(far.backend.maker, real, "cat", "/proc/1/environ")
        assert not [one for _, _, one in far.standin.requests if "env" in one]
        done = steps(far, shard)
        assert "Run the enrolment" in done
        assert "mcte_" not in done

    def test_a_job_runs_in_the_shard_and_pushes_its_branch(self, far: ProxmoxStack, shard: str) -> None:
        run_job(far, shard, "first")

    def test_recycle_replaces_the_container_with_a_working_one(self, far: ProxmoxStack, shard: str) -> None:
        before = far.real(shard)
        far.world.manage("jobs", "drain", shard, "--reason", "recycled", "--wait")
        far.world.operate("recycle", shard)
        far.world.manage("jobs", "resume", shard)
        assert far.real(shard) != before
        run_job(far, shard, "second")

    def test_destroy_leaves_nothing_behind(self, far: ProxmoxStack, shard: str) -> None:
        far.world.operate("destroy", shard)
        assert far.left() == []
