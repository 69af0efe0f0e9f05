"""Start of a shard's worker: its refusals and its log."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from myctobot.stack.plan import CHECKOUT
from workers.config import load_config

BWRAP = shutil.which("bwrap") or "/usr/bin/bwrap"
MOUNT_NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
# A mount namespace in which bubblewrap cannot be executed.
WITHOUT_BWRAP = [*MOUNT_NAMESPACE, "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', BWRAP]
# The same without the file systems of the control groups.
HIDE_ALL = 'mount --bind /dev/null "$0" && mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
WITHOUT_LIMITS = [*MOUNT_NAMESPACE, "sh", "-c", HIDE_ALL, BWRAP]


def config_file(directory: Path, **changes: Any) -> Path:
    config = {
        "shard_id": "probe",
        "control_url": "http://127.0.0.1:9",
        "broker_url": "redis://127.0.0.1:9/0",
        "shard_key": "mcts_probe",
        "capabilities": ["git"],
        "run_path": str(directory / "run"),
        "cleanup": {"workspace_path": str(directory / "jobs")},
        **changes,
    }
    path = directory / "config.json"
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return path


def start(config: Path, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "workers.main", "--config", str(config)],
        cwd=CHECKOUT,
        env={"PATH": os.defpath},
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(config: Path, prefix: Sequence[str] = ()) -> str:
    """Return the log of a worker that does not start."""
    with start(config, prefix) as process:
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 2, said
    return said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shard_key": None}, "shard_key is missing"),
        ({"shard_id": "Not A Slug"}, "shard_id contains"),
        ({"max_concurrent_jobs": 0}, "max_concurrent_jobs must be from 1 to 64"),
        ({"max_concurrent_jobs": True}, "max_concurrent_jobs must be a whole number"),
        ({"broker_url": "amqp://x"}, "broker_url must be a URL"),
        ({"control_url": "http://[::1"}, "control_url must be a URL"),
        ({"control_url": "http://192.0.2.1"}, "control_url is http://192.0.2.1, so keys would travel in clear text"),
        ({"broker_url": "redis://192.0.2.1"}, "list the network in plain_networks"),
        ({"plain_networks": ["10.0.0.1/24"]}, "plain_networks: 10.0.0.1/24 has host bits set"),
        ({"colour": "red"}, "colour is not a setting"),
        ({"sandbox": {"memory": 1}}, "sandbox.memory is not a setting"),
        ({"sandbox": {"disk_mb": 63}}, "sandbox.disk_mb must be from 64 to 16777216"),
        ({"sandbox": {"disk_mb": 64, "disk_files": 10_000}}, "sandbox.disk_files must be from 1000 to 8192"),
        ({"sandbox": {"network": "host"}}, "sandbox.network must be one of: job, shard"),
        ({"sandbox": {"proxy_url": "http://x:1/path"}}, "sandbox.proxy_url must be only a proxy's address"),
        ({"sandbox": {"addresses": ["db.example:5432"]}}, "sandbox.addresses: 'db.example:5432' is not an address"),
        ({"sandbox": {"addresses": ["127.0.0.1:22"]}}, "sandbox.addresses: '127.0.0.1:22' is not the address of one"),
        ({"sandbox": {"addresses": [f"10.0.0.{at}:80" for at in range(129)]}}, "are more than 128 addresses"),
        (
            {"claude_code": {"mcp_servers": {"git": {"command": "x", "addresses": ["169.254.169.254:80"]}}}},
            "claude_code.mcp_servers.git.addresses: '169.254.169.254:80' is not the address of one other machine",
        ),
        ({"git": {"schemes": ["ext"]}}, "git.schemes contains 'ext'"),
        ({"git": {"schemes": ["https", "file"]}}, "git.schemes contains file, which needs git.file_roots"),
        ({"git": {"file_roots": ["srv/repos"]}}, "git.file_roots contains 'srv/repos'"),
        ({"git": {"file_roots": ["/"]}}, "git.file_roots contains '/'"),
        ({"git": {"proxy_url": "socks5://x:1"}}, "git.proxy_url must be a URL"),
        ({"git": {"proxy_url": "http://me:secret@x:1"}}, "git.proxy_url must be only a proxy's address"),
        ({"claude_code": {"mcp_servers": {"git": {"args": []}}}}, "claude_code.mcp_servers.git.command is missing"),
    ],
)
def test_a_bad_configuration_is_refused_by_its_key(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(config_file(tmp_path, **changes))


def test_a_shard_without_bubblewrap_refuses_to_start(tmp_path: Path) -> None:
    said = refusal(config_file(tmp_path), WITHOUT_BWRAP)
    assert "this shard cannot start" in said
    assert "ask an operator to install the package 'bubblewrap'" in said


@pytest.mark.needs("root")
def test_a_unit_without_the_capability_for_networks_is_named(tmp_path: Path) -> None:
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    assert "needs CAP_NET_ADMIN: update the worker's unit" in refusal(config_file(tmp_path), without)


@pytest.mark.parametrize(
    ("sandbox", "proxy"),
    [({}, "http://10.0.0.1:1"), ({"proxy_url": ""}, None), ({"proxy_url": "http://10.0.0.2:2"}, "http://10.0.0.2:2")],
)
def test_agents_use_the_proxy_of_git_unless_they_have_their_own_or_none(
    tmp_path: Path, sandbox: dict[str, str], proxy: str | None
) -> None:
    file = config_file(tmp_path, sandbox=sandbox, git={"proxy_url": "http://10.0.0.1:1"})
    assert load_config(file).agent_proxy_url == proxy


def log_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stderr is not None
    yield from process.stderr


def first_log(config: Path, prefix: Sequence[str]) -> list[str]:
    """Return the log of a worker that starts, up to its first call of the control plane."""
    with start(config, prefix) as process:
        heard = []
        for line in log_of(process):
            heard.append(line)
            # The last line of the log without a control plane.
            if "cannot be reached" in line:
                break
        process.terminate()
        process.communicate(timeout=20)
    return heard


def test_a_shard_that_may_run_without_a_sandbox_logs_a_warning(tmp_path: Path) -> None:
    config = config_file(tmp_path, sandbox={"allow_unsandboxed": True, "allow_unlimited": True})
    heard = first_log(config, WITHOUT_BWRAP)
    assert any("*** NOTHING IS ISOLATED ON THIS SHARD" in line for line in heard), heard


def test_a_shard_that_limits_nothing_refuses_to_start(tmp_path: Path) -> None:
    said = refusal(config_file(tmp_path, sandbox={"allow_unsandboxed": True}), WITHOUT_LIMITS)
    assert "this shard cannot start: no limit on the agents' memory" in said
    assert "sandbox.allow_unlimited" in said


def test_a_shard_that_may_run_without_limits_logs_a_warning(tmp_path: Path) -> None:
    config = config_file(tmp_path, sandbox={"allow_unsandboxed": True, "allow_unlimited": True})
    heard = first_log(config, WITHOUT_LIMITS)
    assert any("*** NOTHING IS LIMITED ON THIS SHARD" in line for line in heard), heard
