"""Role ``shard``: it builds a template, and containers of that template work as shards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from shards.providers.ansible import configure
from shards.providers.errors import ProviderError
from shards.providers.lxc import network, role, template
from shards.providers.lxc.chroot import Chroot
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.layers import shown
from shards.providers.lxc.provider import LxcProvider
from tests.fixtures.broker import Operator, job_named
from tests.fixtures.provider_contract import Notes

from .conftest import lxc_host, running
from .inside import KEY, UNTIL_RELEASED, inside, output, python, release_jobs, wait_booted
from .shard_host import (
    BROKER_PORT,
    CONTROL_PORT,
    GATEWAY_PORT,
    QUEUE,
    TOKEN,
    WAIT_S,
    Control,
    broker,
    control_plane,
    eventually,
)
from .templates import common_layer

IMAGE = "shard"
SPEC = {"image": IMAGE, "memory_mb": 768, "disk_mb": 1024, "processes": 256}
BUILD_TIMEOUT_S = 600
AGENT = 64600

# Each line of output has the user id, the port and the result.
_PROBE = """
import os, socket, sys
address, *ports = sys.argv[1:]
for uid in (0, AGENT, AGENT + 63):
    for port in ports:
        if os.fork():
            os.wait()
            continue
        os.setgroups([]), os.setgid(uid), os.setuid(uid)
        try:
            socket.create_connection((address, int(port)), timeout=5)
            result = "through"
        except ConnectionRefusedError:
            result = "through"
        except OSError:
            result = "fenced"
        print(uid, port, result, flush=True)
        os._exit(0)
""".replace("AGENT", str(AGENT))


@pytest.fixture(scope="module")
def host() -> Iterator[LxcHost]:
    """Set up a separate host, because another worker runs the tests of other files at the same time."""
    with lxc_host("role", "mctbr0", IPv4Network("10.225.0.0/24"), 320_000_000) as made:
        yield made


@pytest.fixture(scope="module")
def shard_host(host: LxcHost) -> Iterator[LxcHost]:
    """Add a template for shards to the tests' host, and open the ports that a shard uses."""
    wider = replace(host, allowed=tuple((host.address, port) for port in (CONTROL_PORT, BROKER_PORT, GATEWAY_PORT)))
    network.set_up(wider)
    common_layer(host.path)
    template.build(host.path, IMAGE, below=role.COMMON, configure=lambda chroot: _configure_by_role(chroot, host))
    yield wider
    network.set_up(host)


SERVER_PORT = 45123
# The job's own server listens on all of its addresses, until ``release_jobs``.
SERVE = f"""
python3 -m http.server {SERVER_PORT} >/dev/null 2>&1 &
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", {SERVER_PORT}))' 2>/dev/null; do sleep 0.1; done
touch ~/serving
{UNTIL_RELEASED}
"""
REACH = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        print(target, "is open")
    except OSError as error:
        print(target, "fails:", type(error).__name__)
"""

changes: list[int] = []


def _configure_by_role(chroot: Chroot, host: LxcHost) -> None:
    variables = {
        "shard_ssh": True,
        "shard_fence_root": [f"{host.address}:{port}" for port in (CONTROL_PORT, BROKER_PORT)],
        "shard_fence_agents": [f"{host.address}:{GATEWAY_PORT}"],
    }
    with chroot.reached_by_ssh() as ssh:
        key = ssh.known_hosts.read_text().split(" ", 1)[1].strip()
        for _ in range(2):
            made = configure(
                ssh.host, ssh.port, ssh.private_key, "template.yml", variables, Notes(), BUILD_TIMEOUT_S, host_key=key
            )
            changes.append(made)


@pytest.fixture
def shards(shard_host: LxcHost) -> Iterator[LxcProvider]:
    maker = LxcProvider(shard_host)
    yield maker
    for one in maker.list():
        maker.destroy(one.ref, Notes())


@pytest.fixture
def control(shard_host: LxcHost) -> Iterator[Control]:
    with control_plane(str(shard_host.address)) as made:
        yield made


@pytest.fixture
def operator(shard_host: LxcHost, tmp_path: Path) -> Iterator[Operator]:
    with broker(str(shard_host.address), tmp_path) as made:
        yield made


def configure_by_ssh(maker: LxcProvider, ref: str, control: Control, token: str) -> int:
    """Run the playbook for a container that its provider gave no variables."""
    address = str(maker.status(ref).address)
    host_key = (
        (maker.host.path / "containers" / ref / "disk/upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().strip()
    )
    variables = {
        "control_url": control.url,
        "shard_name": "alpha",
        "enrol_token": token,
        "plain_networks": [control.address],
    }
    key = maker.host.path / KEY
    return configure(address, 22, key, "shard.yml", variables, Notes(), BUILD_TIMEOUT_S, host_key=host_key)


def test_a_second_run_of_the_role_changes_nothing(shard_host: LxcHost) -> None:
    # The layer below lacks only the fence, so the first run changes little and the second run nothing.
    assert changes[0] > 2
    assert changes[1:] == [0]


def test_a_template_has_no_identity_and_no_address(shard_host: LxcHost) -> None:
    gone = ["etc/hostname", "etc/pip.conf", "root/.ssh", "root/.cache", "root/.ansible", "var/lib/claude-shard"]
    with shown(shard_host.path / "templates" / IMAGE) as root:
        assert (root / "etc/machine-id").read_bytes() == b""
        assert sorted(path.name for path in (root / "etc/claude-shard").iterdir()) == ["fence.nft"]
        assert not [path for path in gone if (root / path).exists()]
        assert not list((root / "etc/ssh").glob("ssh_host_*"))
        assert not list((root / "var/lib/apt/lists").glob("*Packages*"))


def test_a_container_with_enrolment_variables_enrols_as_that_shard(shards: LxcProvider, control: Control) -> None:
    begun = time.time()
    ref = running(shards, "alpha", environment=control.environment(), **SPEC)
    eventually(lambda: control.beats, "no heartbeat came")
    assert control.beats[0][0] - begun < WAIT_S
    assert wait_booted(shards, ref) == "running"
    assert control.enrolled == [TOKEN]
    assert output(shards, ref, "stat", "-c", "%a %U", "/etc/claude-shard", "/etc/claude-shard/config.json").split() == [
        *("700", "root", "600", "root"),
    ]
    for unit in ("claude-shard", "claude-shard-fence", "claude-shard-enroll", "ssh"):
        assert output(shards, ref, "systemctl", "is-active", unit) == "active", unit
    assert "canary" not in output(shards, ref, "journalctl", "--no-pager", "--output=cat")


def test_a_restart_does_not_reuse_the_token_and_an_agent_cannot_read_it(shards: LxcProvider, control: Control) -> None:
    ref = running(shards, "alpha", environment=control.environment(), **SPEC)
    eventually(lambda: control.beats, "no heartbeat came")
    shards.stop(ref, Notes())
    control.beats.clear()
    shards.start(ref, Notes())
    eventually(lambda: control.beats, "no heartbeat came after the restart")
    assert len(control.enrolled) == 1
    read = inside(shards, ref, "setpriv", f"--reuid={AGENT}", f"--regid={AGENT}", "--clear-groups", "--",
                  "cat", "/proc/1/environ", "/etc/claude-shard/config.json")  # fmt: skip
    assert read.stdout == ""
    assert read.stderr.count("Permission denied") == 2


def test_a_job_runs_as_the_agents_user_within_its_limits(
    shards: LxcProvider, control: Control, operator: Operator
) -> None:
    control.prompt = "- run: id -u; ls /etc/claude-shard /opt 2>&1; cat /proc/self/cgroup"
    running(shards, "alpha", environment=control.environment(), **SPEC)
    eventually(lambda: control.beats, "no heartbeat came")
    operator.send(QUEUE, job_named("one"))
    assert eventually(lambda: control.finished.get(job_named("one")), "the job did not end") == "completed"
    (said,) = [text for text in control.said if "is_error" in text]
    assert str(AGENT) in said
    assert "cannot access '/etc/claude-shard'" in said


@pytest.mark.parametrize(
    "end",
    [
        lambda maker, ref: inside(maker, ref, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "claude-shard"),
        lambda maker, ref: inside(maker, ref, "systemctl", "restart", "--no-block", "claude-shard"),
        lambda maker, ref: inside(maker, ref, "systemctl", "reload", "claude-shard"),
    ],
    ids=["killed", "restarted", "reloaded"],
)
def test_a_job_survives_the_end_of_its_worker(
    shards: LxcProvider, control: Control, operator: Operator, end: Callable[[LxcProvider, str], object]
) -> None:
    control.prompt = f"- run: {UNTIL_RELEASED}\n- say: still here"
    ref = running(shards, "alpha", environment=control.environment(), **SPEC)
    eventually(lambda: control.beats, "no heartbeat came")
    operator.send(QUEUE, job_named("one"))
    eventually(lambda: control.said, "the job did not begin")
    pid = output(shards, ref, "systemctl", "show", "--property=MainPID", "--value", "claude-shard")
    before = len(control.beats)
    end(shards, ref)
    eventually(lambda: any(running for _, running in control.beats[before:]), "the job was not adopted")
    release_jobs(shards, ref)
    assert eventually(lambda: control.finished.get(job_named("one")), "the job did not end") == "completed"
    assert any("still here" in text for text in control.said)
    eventually(lambda: control.beats[-1][1] == [], "its slot did not become free")
    again = output(shards, ref, "systemctl", "show", "--property=MainPID", "--value", "claude-shard")
    assert again != "0"
    assert (again == pid) == ("reload" in str(end.__code__.co_consts))


def test_a_job_reaches_no_server_of_another_job_in_its_container(
    shards: LxcProvider, control: Control, operator: Operator
) -> None:
    control.slots, control.prompt = 2, json.dumps([{"run": SERVE}])
    ref = running(shards, "alpha", environment=control.environment(), **SPEC)
    eventually(lambda: control.beats, "no heartbeat came")
    operator.send(QUEUE, job_named("one"))
    serving = ("sh", "-c", "ls /var/lib/claude-shard/jobs/job_one*/agent/home/serving")
    eventually(lambda: inside(shards, ref, *serving).returncode == 0, "the first job does not serve")
    # The container's SSH server is reachable for its root, so a job with the container's network would reach it too.
    targets = [f"{host}:{port}" for host in ("127.0.0.1", shards.status(ref).address) for port in (SERVER_PORT, 22)]
    is_open = "127.0.0.1:22 is open"
    eventually(lambda: is_open in python(shards, ref, REACH, *targets), "the SSH server does not answer")
    control.prompt = json.dumps([{"run": f"python3 - {' '.join(targets)} <<'END'\n{REACH}END\n"}])
    operator.send(QUEUE, job_named("two"))
    assert eventually(lambda: control.finished.get(job_named("two")), "the second job did not end") == "completed"
    # The first job has no result yet.
    (said,) = [text for text in control.said if "is_error" in text]
    assert said.count("fails:") == len(targets)
    assert "is open" not in said
    assert job_named("one") not in control.finished
    release_jobs(shards, ref)
    assert eventually(lambda: control.finished.get(job_named("one")), "the first job did not end") == "completed"


def test_the_fence_inside_separates_agents_from_root(shards: LxcProvider, control: Control) -> None:
    ref = running(shards, "alpha", **SPEC)
    eventually(lambda: inside(shards, ref, "nft", "list", "table", "inet", "claude_shard").returncode == 0, "no fence")
    ports = [str(port) for port in (CONTROL_PORT, BROKER_PORT, GATEWAY_PORT)]
    said = python(shards, ref, _PROBE, control.address, *ports).splitlines()
    expected = [f"{uid} {port} {'through' if (uid == 0) != (port == str(GATEWAY_PORT)) else 'fenced'}"
                for uid in (0, AGENT, AGENT + 63) for port in ports]  # fmt: skip
    assert said == expected


def test_a_container_without_variables_waits_and_ansible_makes_it_a_shard(
    shards: LxcProvider, control: Control
) -> None:
    ref = running(shards, "alpha", **SPEC)
    assert wait_booted(shards, ref) == "running"
    assert inside(shards, ref, "systemctl", "is-active", "claude-shard").stdout.strip() == "inactive"
    assert configure_by_ssh(shards, ref, control, "canary-by-ansible") > 0
    eventually(lambda: control.beats, "no heartbeat came")
    assert json.loads(output(shards, ref, "cat", "/etc/claude-shard/config.json")) == control.config()
    assert inside(shards, ref, "ls", "/etc/claude-shard/enrol.env").returncode != 0
    assert configure_by_ssh(shards, ref, control, "canary-by-ansible") == 0
    assert control.enrolled == ["canary-by-ansible"]


def test_a_refused_enrolment_reports_the_control_planes_message(shards: LxcProvider, control: Control) -> None:
    control.used.add("canary-used")
    ref = running(shards, "alpha", **SPEC)
    wait_booted(shards, ref)
    with pytest.raises(ProviderError, match="The token was used before") as caught:
        configure_by_ssh(shards, ref, control, "canary-used")
    assert "canary-used" not in str(caught.value)
    assert "Make a new token" in str(caught.value)
