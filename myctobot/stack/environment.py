"""Environments of the stack's processes, each built from an empty one.

The caller's environment may contain keys of other programs, and job runners and agents are descendants of
these processes. Therefore only the variables named here are passed on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from myctobot.lib.crypto import callback_keys_of
from myctobot.lib.value_files import read_value_file
from myctobot.stack.errors import StackError
from myctobot.stack.home import GeneratedSecrets, Home

BASE = ("PATH", "HOME", "LANG", "TZ", "TERM")
# Variables of MyCTOBot that the caller may set. The stack sets the others, such as ports and keys.
OWN = (
    *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "SECRETS_KEYS"),
    *("GATEWAY_UPSTREAM", "GATEWAY_SCRIPTS", "ALLOWED_HOSTS", "DEBUG", "LOG_LEVEL"),
    *("GATEWAY_MAX_CONCURRENT_CALLS", "GATEWAY_MAX_CALLS_PER_ATTEMPT", "GATEWAY_GRANT_CHECK_S"),
    *("GATEWAY_MODELS", "GATEWAY_BETAS", "GATEWAY_TOOLS", "GATEWAY_SOURCES", "GATEWAY_REMOTE_MCP"),
    *("RUN_TIMEOUT_S", "QUEUE_TIMEOUT_S", "NO_OUTPUT_TIMEOUT_S", "MAX_WAITING_JOBS"),
    *("CALLBACK_PRIVATE_HOSTS", "CALLBACK_CA_FILE"),
    *("JOB_LOG_MAX_BYTES", "EVENT_RETENTION_DAYS", "JOB_RETENTION_DAYS", "SHARD_SAMPLE_RETENTION_DAYS"),
    *("WORK_MAX_MB", "WORK_TENANT_MAX_MB", "WORK_RETENTION_DAYS"),
    *("REPO_SCHEMES", "REPO_FILE_ROOTS", "REPO_PRIVATE_HOSTS", "REPEATABLE_CAPABILITIES"),
    "KEEP_REPOSITORY_OBJECTS",
    *("DATABASE_POOL_SIZE", "ANTHROPIC_BASE_URL"),
    *("STATEMENT_TIMEOUT_S", "SHARD_STATEMENT_TIMEOUT_S", "WORKER_STATEMENT_TIMEOUT_S"),
    *("SHARD_CONTROL_URL", "SHARD_BROKER_URL", "SHARD_NETWORKS", "SHARD_NETWORKS_EXCEPT"),
    *("SHARD_PROXY_URL", "SHARD_GIT_CA_FILE", "SHARD_SSH_KEY_FILE", "SHARD_READY_TIMEOUT_S"),
    *("SHARD_JOB_NETWORK", "SHARD_AGENT_PROXY_URL", "SHARD_AGENT_ADDRESSES"),
    *("SHARD_SSH_HOST_KEY", "SHARD_SSH_TRUST_FIRST_KEY", "SHARD_PLAIN_NETWORKS"),
    *("METRICS_TOKEN", "METRICS_NETWORKS"),
    *("STAFF_TOTP_REQUIRED", "SECURITY_CONTACT", "SECURITY_EXPIRES"),
    *("MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS"),
    *("REQUEST_HEADER_TIMEOUT_S", "REQUEST_BODY_TIMEOUT_S", "RESPONSE_STALL_TIMEOUT_S"),
    *("LOCAL_SHARD_SLOTS", "LOCAL_SHARD_EXECUTOR", "LOCAL_SHARD_MEMORY_MB", "LOCAL_SHARD_GIT_CA_FILE"),
    *("LOCAL_SHARD_NETWORK", "LOCAL_SHARD_PROXY_URL"),
)
# Prefixes of the variables of providers, alerts and limits on calls, which are many.
OWN_PREFIXES = (
    *("LXC_", "EGRESS_", "PROXMOX_", "ALERT_", "EMAIL_"),
    *("CALLS_PER_", "CALL_", "CONCURRENT_CALLS", "WAITING_CALLS_", "OPEN_STREAMS_"),
)
# Variables that name a file which the programs read themselves. Any other name may end with _FILE for its value's file.
PATHS = (
    *("GATEWAY_SCRIPTS", "CALLBACK_CA_FILE", "PROXMOX_CA_FILE", "LXC_AUTHORIZED_KEYS_FILE"),
    *("SHARD_GIT_CA_FILE", "SHARD_SSH_KEY_FILE", "LOCAL_SHARD_GIT_CA_FILE"),
)
# Every process of the control plane gets these.
_COMMON = ("MYCTOBOT_HOME", "EMBEDDED", "DEBUG", "LOG_LEVEL")
# A process that serves HTTP.
_SERVING = (
    *("ALLOWED_HOSTS", "MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS"),
    *("REQUEST_HEADER_TIMEOUT_S", "REQUEST_BODY_TIMEOUT_S", "RESPONSE_STALL_TIMEOUT_S"),
)
_DATABASE = ("DATABASE_URL", "DATABASE_POOL_SIZE", "STATEMENT_TIMEOUT_S")
# Names and prefixes of the variables of processes that need few; a prefix ends with "_".
_ONLY: Mapping[str, tuple[str, ...]] = {
    # A migration seals secrets again.
    "migrate": (*_DATABASE, "SECRETS_KEYS"),
    "gateway": (*_DATABASE, *_SERVING, "SECRETS_KEYS", "ANTHROPIC_BASE_URL", "GATEWAY_"),
    "beat": ("REDIS_URL",),
    "flower": ("REDIS_URL",),
    "egress": ("LXC_", "EGRESS_"),
}
# Variables of one or few of the processes that need most of them.
_RESERVED: Mapping[str, frozenset[str]] = {
    "SECRETS_KEYS": frozenset({"web", "shardapi", "gateway"}),
    # They open only the secrets that sign callbacks. The others derive them.
    "CALLBACK_KEYS": frozenset({"control"}),
    "METRICS_TOKEN": frozenset({"web"}),
    "METRICS_NETWORKS": frozenset({"web"}),
}
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Addresses:
    database_url: str
    redis_url: str
    control_url: str
    gateway_url: str
    # None if the web process serves the shard API.
    shard_api_url: str | None = None


def caller_environment() -> dict[str, str]:
    """Return the environment as the caller gave it.

    ``os.environ`` is not enough: Django's settings add the variables of a running stack from ``<home>/env``.
    After a crash they would seem to be set by the caller.
    """
    raw = Path("/proc/self/environ").read_bytes()
    pairs = (item.partition("=") for item in raw.decode(errors="surrogateescape").split("\0"))
    return {name: value for name, _, value in pairs if name}


def base_environment(caller: Mapping[str, str], home: Home) -> dict[str, str]:
    """Return the environment of every process, shards included; it has nothing of the control plane."""
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
    """Return MyCTOBot's variables for the control plane's processes and for ``<home>/env``.

    Raises:
        StackError: the caller's ``SECRETS_KEYS`` are malformed, or a file with a value cannot be read.
    """
    given = _given(caller)
    keys = given.get("SECRETS_KEYS", secrets.secrets_keys)
    try:
        callback_keys = callback_keys_of(keys.split(","))
    except ValueError as error:
        raise StackError("SECRETS_KEYS: a text is not a Fernet key (32 bytes, url-safe base64).") from error
    return {
        "GATEWAY_UPSTREAM": "scripted",
        "SECRET_KEY": secrets.secret_key,
        "SECRETS_KEYS": keys,
        "CALLBACK_KEYS": ",".join(callback_keys),
        **given,
        "MYCTOBOT_HOME": str(home.root),
        "EMBEDDED": "1",
        "DATABASE_URL": addresses.database_url,
        "REDIS_URL": addresses.redis_url,
        "CONTROL_URL": addresses.control_url,
        "SHARD_API_URL": addresses.shard_api_url or addresses.control_url,
        "GATEWAY_URL": addresses.gateway_url,
        "ALLOWED_HOSTS": _allowed_hosts(caller, addresses.control_url),
    }


def _given(caller: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's values; those in files are read here, because the programs may have no right to."""
    found: dict[str, str] = {}
    for name, value in caller.items():
        of_value = name.removesuffix("_FILE") if name not in PATHS else name
        if not value or not (of_value in OWN or of_value.startswith(OWN_PREFIXES)):
            continue
        if of_value == name:
            found.setdefault(name, value)
        else:
            found[of_value] = _read_value(name, Path(value))
    return found


def _read_value(name: str, path: Path) -> str:
    try:
        return read_value_file(name, path)
    except ValueError as error:
        raise StackError(str(error)) from error


def variables_of(program: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return those of MyCTOBot's variables that one process of the stack needs.

    Args:
        program: name of the process, such as ``web`` or ``web-2``.
        variables: all of them, as ``own_variables`` returns them.
    """
    kind = program.partition("-")[0]
    if kind in _ONLY:
        needed = (*_COMMON, *_ONLY[kind])
        return {name: value for name, value in variables.items() if _is_among(name, needed)}
    return {name: value for name, value in variables.items() if kind in _RESERVED.get(name, {kind})}


def _is_among(name: str, needed: tuple[str, ...]) -> bool:
    prefixes = tuple(item for item in needed if item.endswith("_"))
    return name in needed or name.startswith(prefixes)


def _allowed_hosts(caller: Mapping[str, str], control_url: str) -> str:
    """Return the caller's host names or the default ones, and the address at which shards reach the stack."""
    given = caller.get("ALLOWED_HOSTS") or "127.0.0.1,localhost,[::1]"
    own = urlsplit(control_url).hostname or ""
    return given if own in given.split(",") or "*" in given else f"{given},{own}"


def env_file(variables: Mapping[str, str]) -> str:
    """Return the text of ``<home>/env``.

    Raises:
        ValueError: a value contains a line break, which the file format does not support.
    """
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name} contains a line break; put it on one line.")
    return "".join(f"{name}={value}\n" for name, value in sorted(variables.items()))
