"""The environments of the stack's processes, each built from nothing.

The caller's environment may hold keys of other programs, and job runners and agents are descendants of
these processes: only what is named here goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from myctobot.stack.home import GeneratedSecrets, Home

BASE = ("PATH", "HOME", "LANG", "TZ", "TERM")
# Variables of MyCTOBot that the caller may set; the stack decides the others (ports, keys).
OWN = (
    *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "SECRETS_KEYS"),
    *("GATEWAY_UPSTREAM", "GATEWAY_PLAYS", "ALLOWED_HOSTS", "DEBUG", "LOG_LEVEL"),
    *("RUN_TIMEOUT_S", "QUEUE_TIMEOUT_S", "NO_OUTPUT_TIMEOUT_S", "MAX_WAITING_JOBS"),
    *("CALLBACK_PRIVATE_HOSTS", "CALLBACK_CA_FILE"),
    *("JOB_LOG_MAX_BYTES", "EVENT_RETENTION_DAYS", "JOB_RETENTION_DAYS", "SHARD_SAMPLE_RETENTION_DAYS"),
    *("REPO_SCHEMES", "REPO_PRIVATE_HOSTS", "REPEATABLE_CAPABILITIES", "DATABASE_POOL_SIZE", "ANTHROPIC_BASE_URL"),
    *("SHARD_CONTROL_URL", "SHARD_BROKER_URL", "SHARD_NETWORKS", "SHARD_NETWORKS_EXCEPT"),
    *("SHARD_PROXY_URL", "SHARD_GIT_CA_FILE", "SHARD_SSH_KEY_FILE", "SHARD_READY_TIMEOUT_S"),
    *("METRICS_TOKEN", "METRICS_NETWORKS"),
    *("LOCAL_SHARD_SLOTS", "LOCAL_SHARD_EXECUTOR", "LOCAL_SHARD_MEMORY_MB", "LOCAL_SHARD_GIT_CA_FILE"),
)
# Variables of providers and alerts, of which there are many: all that begin so.
OWN_PREFIXES = ("LXC_", "EGRESS_", "PROXMOX_", "ALERT_", "EMAIL_")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Addresses:
    database_url: str
    redis_url: str
    control_url: str
    gateway_url: str


def caller_environment() -> dict[str, str]:
    """The environment as the caller gave it.

    ``os.environ`` will not do: Django's settings add the variables of a running stack from
    ``<home>/env``, and after a crash those would pass for the caller's own wishes.
    """
    raw = Path("/proc/self/environ").read_bytes()
    pairs = (item.partition("=") for item in raw.decode(errors="surrogateescape").split("\0"))
    return {name: value for name, _, value in pairs if name}


def base_environment(caller: Mapping[str, str], home: Home) -> dict[str, str]:
    """What every process gets, a shard too: nothing of the control plane."""
    kept = {name: caller[name] for name in BASE if name in caller}
    programs = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": f"{programs}:{kept.get('PATH') or _DEFAULT_PATH}",
        "TMPDIR": str(home.tmp),
        "PYTHONUNBUFFERED": "1",
    }


def own_variables(
    caller: Mapping[str, str], home: Home, secrets: GeneratedSecrets, addresses: Addresses
) -> dict[str, str]:
    """MyCTOBot's variables for the control plane's processes; also what ``<home>/env`` holds."""
    return {
        "GATEWAY_UPSTREAM": "scripted",
        "SECRET_KEY": secrets.secret_key,
        "SECRETS_KEYS": secrets.secrets_keys,
        **{name: value for name, value in caller.items() if value and (name in OWN or name.startswith(OWN_PREFIXES))},
        "MYCTOBOT_HOME": str(home.root),
        "EMBEDDED": "1",
        "DATABASE_URL": addresses.database_url,
        "REDIS_URL": addresses.redis_url,
        "CONTROL_URL": addresses.control_url,
        "GATEWAY_URL": addresses.gateway_url,
        "ALLOWED_HOSTS": _allowed_hosts(caller, addresses.control_url),
    }


def _allowed_hosts(caller: Mapping[str, str], control_url: str) -> str:
    """The caller's names, or the usual ones; and the address at which shards find the stack."""
    given = caller.get("ALLOWED_HOSTS") or "127.0.0.1,localhost,[::1]"
    own = urlsplit(control_url).hostname or ""
    return given if own in given.split(",") or "*" in given else f"{given},{own}"


def env_file(variables: Mapping[str, str]) -> str:
    """The lines of ``<home>/env``.

    Raises:
        ValueError: a value holds a line break, which the file cannot carry.
    """
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name} holds a line break; put it on one line.")
    return "".join(f"{name}={value}\n" for name, value in sorted(variables.items()))
