"""Attacks from inside a shard, as the agent and as the container's root, on everything outside of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit

import pytest

from workers.sandbox.forwarding import GATEWAY_PORT, PROXY_PORT
from workers.sandbox.network import LOOPBACK

from .conftest import shards_in
from .inside import UNTIL_RELEASED, output, release_jobs
from .operating import Operator
from .world import World

# The program tries connections and files and prints each result. The agent's Python has only the standard library.
PROBE = dedent(
    """
    import json, os, socket, sys
    def connect(host, port):
        try:
            with socket.create_connection((host, port), timeout=3):
                return "open"
        except OSError as error:
            return type(error).__name__
    def read(path):
        try:
            open(path).read(1)
            return "open"
        except OSError as error:
            return type(error).__name__
    targets = json.loads(sys.argv[1])
    found = {f"{h}:{p}": connect(h, p) for h, p in targets["hosts"]}
    found |= {path: read(path) for path in targets["files"]}
    found["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
    found["uid"] = os.getuid()
    print("FOUND " + json.dumps(found))
    """
)
HTTP = dedent(
    """
    import sys, urllib.request, urllib.error
    request = urllib.request.Request(sys.argv[1], data=b"{}" if sys.argv[2] == "POST" else None)
    for header in sys.argv[3:]:
        request.add_header(*header.split(": ", 1))
    try:
        print(urllib.request.urlopen(request, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)
    """
)
CONNECT = dedent(
    """
    import socket, sys
    with socket.create_connection((sys.argv[1], 8888), timeout=10) as proxy:
        proxy.sendall(f"CONNECT {sys.argv[2]} HTTP/1.1\\r\\nHost: {sys.argv[2]}\\r\\n\\r\\n".encode())
        print(proxy.recv(200).decode().splitlines()[0])
    """
)
REDIS = dedent(
    """
    import json, sys
    import redis
    from workers.config import load_config
    from pathlib import Path
    config = load_config(Path("/etc/claude-shard/config.json"))
    client = redis.Redis.from_url(config.broker_url, socket_timeout=3)
    for command in json.loads(sys.argv[1]):
        try:
            client.execute_command(*command)
            print(" ".join(command), "-> done")
        except redis.RedisError as error:
            is_refused = "NOPERM" in repr(error) or "permission" in str(error)
            print(" ".join(command), "->", "refused" if is_refused else error)
    """
)
INTERNET, METADATA = "1.1.1.1", "169.254.169.254"
POSTGRES, SSH, EGRESS_PORT = 5432, 22, 8888


@pytest.fixture(scope="module")
def world(general: World) -> Iterator[World]:
    with shards_in(general, "mine", "theirs") as made:
        yield made


@pytest.fixture(scope="module")
def ref(world: World) -> str:
    return str(world.shard("mine")["ref"])


def ports(world: World) -> tuple[str, int, int]:
    web, gateway = urlsplit(world.stack.web_url), urlsplit(world.stack.gateway_url)
    assert web.hostname is not None
    return web.hostname, web.port or 0, gateway.port or 0


def broker_port(world: World) -> int:
    lines = (world.stack.home / "env").read_text().splitlines()
    url = next(line.removeprefix("REDIS_URL=") for line in lines if line.startswith("REDIS_URL="))
    return urlsplit(url).port or 0


def address_of(world: World, shard: str) -> str:
    return world.maker.status(world.shard(shard)["ref"]).address or ""


def as_agent(world: World, targets: dict[str, Any]) -> dict[str, Any]:
    """Let the agent of a job try hosts and files, and return the results, with the shard of the job."""
    script = f"SCRIPT:\npython3 - '{json.dumps(targets)}' <<'END'\n{PROBE}END\n"
    job = world.client.run({"prompt": script})
    assert job["status"] == "completed", job
    events = world.client.events(job["id"])
    result = next(event["data"]["output"] for event in events if event["kind"] == "tool.result")
    found = json.loads(str(result).split("FOUND ", 1)[1].splitlines()[0])
    return {**found, "shard": job["attempts"][-1]["shard"]}


def as_root(world: World, ref: str, program: str, *arguments: str) -> str:
    command = (
        "/opt/claude-shard/venv/bin/python",
        "-c",
        f"import os; os.chdir('/opt/claude-shard')\n{program}",
    )
    return output(world.maker, ref, *command, *arguments)


def test_the_agent_reaches_only_its_gateway(world: World) -> None:
    host, web, gateway = ports(world)
    hosts = [
        (LOOPBACK, GATEWAY_PORT),
        (LOOPBACK, PROXY_PORT),
        (LOOPBACK, SSH),
        *((host, port) for port in (web, gateway, broker_port(world), EGRESS_PORT, SSH, POSTGRES)),
        (INTERNET, 443),
        (METADATA, 80),
        # One of them is the address of the agent's own container.
        *((address_of(world, name), SSH) for name in ("mine", "theirs")),
    ]
    found = as_agent(world, {"hosts": hosts, "files": []})
    assert found.pop(f"{LOOPBACK}:{GATEWAY_PORT}") == "open"
    refused = {name: outcome for name, outcome in found.items() if ":" in name}
    assert len(refused) == len(hosts) - 1
    assert "open" not in refused.values(), refused


def test_a_shard_reports_that_each_job_has_a_network_of_its_own(world: World) -> None:
    with Operator(world.stack) as operator:
        assert operator.shard("mine")["report"]["network"] == "job"


def test_root_of_a_container_reaches_what_its_jobs_do_not(world: World, ref: str) -> None:
    host, _, gateway = ports(world)
    hosts = [(LOOPBACK, SSH), (address_of(world, "mine"), SSH), (host, gateway), (host, EGRESS_PORT)]
    answer = as_root(world, ref, PROBE, json.dumps({"hosts": hosts, "files": []}))
    found = json.loads(answer.split("FOUND ", 1)[1])
    assert [found[f"{address}:{port}"] for address, port in hosts] == ["open"] * len(hosts)


def test_the_agent_sees_none_of_the_workers_files_and_processes(world: World) -> None:
    files = [
        "/etc/claude-shard/config.json",
        "/etc/claude-shard/config.json.token",
        "/proc/1/environ",
        "/run/claude-shard",
    ]
    found = as_agent(world, {"hosts": [], "files": files})
    assert {found[path] for path in files} <= {"FileNotFoundError", "PermissionError"}
    assert found["uid"] != 0
    # The agent sees only bubblewrap, the shell, itself and its children.
    assert found["processes"] < 15


def test_root_of_a_container_reaches_only_the_services_of_its_shard(world: World, ref: str) -> None:
    host, web, gateway = ports(world)
    hosts = [(host, SSH), (host, POSTGRES), (INTERNET, 443), (METADATA, 80), (address_of(world, "theirs"), SSH)]
    allowed = [(host, web), (host, gateway), (host, broker_port(world))]
    answer = as_root(world, ref, PROBE, json.dumps({"hosts": [*hosts, *allowed], "files": []}))
    found = json.loads(answer.split("FOUND ", 1)[1])
    assert [found[f"{host}:{port}"] for host, port in allowed] == ["open"] * 3
    assert "open" not in [found[f"{host}:{port}"] for host, port in hosts], found


@pytest.mark.parametrize(
    ("target", "is_allowed"),
    [
        ("allowed.invalid:443", True),
        ("evil.invalid:443", False),
        ("allowed.invalid.evil.invalid:443", False),
        ("allowed.invalid:22", False),
        ("1.1.1.1:443", False),
        ("169.254.169.254:80", False),
    ],
)
def test_the_proxy_allows_only_listed_hosts(world: World, ref: str, target: str, is_allowed: bool) -> None:
    answer = as_root(world, ref, CONNECT, ports(world)[0], target)
    # The name does not exist, so the proxy answers an allowed request with another error.
    assert ("403" not in answer) is is_allowed, answer
    assert answer.startswith("HTTP/1")


@pytest.mark.parametrize("path", ["/admin/", "/api/v1/jobs", "/jobs/", "/metrics", "/ops/", "/api/docs/"])
def test_the_control_plane_serves_a_shard_only_the_shard_api(world: World, ref: str, path: str) -> None:
    assert as_root(world, ref, HTTP, f"{world.stack.web_url}{path}", "GET") == "404"
    # A key that is valid on the other port must not help.
    key = f"Authorization: Bearer {world.stack.api_key}"
    assert as_root(world, ref, HTTP, f"{world.stack.web_url}{path}", "GET", key) == "404"


def test_a_shard_cannot_read_or_write_foreign_queues(world: World, ref: str) -> None:
    attacks = [
        *(["BRPOP", queue, "1"] for queue in ("cap.filesystem+git@premium", "shard.theirs", "control", "operations")),
        *(["LPUSH", queue, "x"] for queue in ("cap.filesystem+git", "shard.mine", "shard.theirs", "control")),
        *(
            ["DEL", "cap.filesystem+git"],
            ["KEYS", "*"],
            ["SCAN", "0"],
            ["MONITOR"],
            ["FLUSHALL"],
            ["CONFIG", "GET", "*"],
        ),
        *(["PUBLISH", "/0.celery.pidbox", "x"], ["ACL", "LIST"], ["CLIENT", "LIST"], ["EVAL", "return 1", "0"]),
        *(["SUBSCRIBE", "specific.x"], ["GET", "myctobot:round-wanted"], ["SELECT", "1"]),
    ]
    output_lines = as_root(world, ref, REDIS, json.dumps(attacks)).splitlines()
    assert [line for line in output_lines if not line.endswith("-> refused")] == []
    assert len(output_lines) == len(attacks)


def test_a_shard_cannot_claim_another_shards_job(world: World, ref: str) -> None:
    world.manage("jobs", "drain", "mine", "--reason", "its root attacks")
    try:
        job_id = world.client.submit({"prompt": f"RUN: {UNTIL_RELEASED}"})
        world.client.wait_event(job_id, "tool.call")
        program = dedent(
            """
            import json, sys, httpx
            config = json.load(open("/etc/claude-shard/config.json"))
            headers = {"Authorization": "Bearer " + config["shard_key"]}
            body = {"attempt": 1, "claim_token": "x" * 40}
            url = config["control_url"] + "/shard/v1/jobs/" + sys.argv[1]
            print(httpx.post(url + "/claim", json=body, headers=headers, timeout=5).status_code)
            finish = {"attempt": 1, "outcome": "completed", "final_seq": 0, "result": {}}
            headers["MyCTOBot-Claim"] = "x" * 40
            print(httpx.post(url + "/finish", json=finish, headers=headers, timeout=5).status_code)
            """
        )
        assert as_root(world, ref, program, job_id).split() in (["409", "404"], ["409", "409"])
        release_jobs(world.maker, world.shard("theirs")["ref"])
        assert world.client.wait_end(job_id)["status"] == "completed"
    finally:
        world.manage("jobs", "resume", "mine")


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ("python3 -c 'x = bytearray(2 * 10**9)'; echo survived $?", "survived"),
        ("python3 -c 'import os\nwhile os.fork() >= 0: pass' 2>&1 | tail -n 1; echo survived", "survived"),
        ("head -c 3000M /dev/zero > big; ls -s --block-size=M big | cut -d ' ' -f 1; rm big", ""),
    ],
)
def test_a_job_that_exceeds_its_limits_harms_only_itself(world: World, ref: str, attack: str, said: str) -> None:
    world.client.run({"prompt": f"SCRIPT:\n{attack}"}, timeout_s=60)
    # The worker and the container still run, and the next job completes.
    assert output(world.maker, ref, "systemctl", "is-active", "claude-shard") == "active"
    assert world.client.run({"prompt": "RUN: echo well"})["status"] == "completed"
    assert world.shard("mine")["state"] == "ready"
