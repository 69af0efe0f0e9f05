"""Settings of a shard, read from ``/etc/claude-shard/config.json`` and checked with errors that name the key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from myctobot.contract.direct_addresses import DirectAddress, parse_direct_address
from myctobot.contract.names import is_slug
from myctobot.contract.proxies import is_proxy_url
from myctobot.contract.repositories import is_plain_path
from myctobot.contract.secure_links import parse_networks
from myctobot.contract.shards import JobNetwork
from workers.git.policy import GitPolicy
from workers.git.process import PATH
from workers.links import PLAIN_NETWORKS, LinkPolicy
from workers.sandbox.disk_image import MAX_FILES_PER_MB
from workers.sandbox.sandbox import ResourceLimits

EXECUTORS = ("claude_code", "scripted")
# Agents run as this uid and the 63 after it. Debian assigns lower numbers; an unprivileged container has only those
# below 65536.
FIRST_AGENT_UID = 64600
# Name of the file below ``run_path``.
GIT_CERTIFICATES = "git-ca.pem"
# Of the agents and of all MCP servers together. Each is a listener, and a message carries at most 253 of them.
MAX_ADDRESSES = 128

# A job's disk has the history of its repository in the runner's part and in the agent's.
COPIES = 2

T = TypeVar("T")


class ConfigError(Exception):
    """Configuration is invalid; the message names the key."""


@dataclass(frozen=True)
class McpServer:
    """Command of an MCP server that runs inside the sandbox.

    Args:
        capabilities: what it provides; a job that asks for one of them gets the server.
        addresses: servers that such a job may reach directly.
    """

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    addresses: tuple[DirectAddress, ...] = ()


@dataclass(frozen=True)
class ShardConfig:
    """Settings of a shard.

    Attributes:
        shard_key: authenticates the shard to the control plane; masked in ``repr``.
        broker_url: may contain a password, so it is masked too.
        workspace_path: contains one directory for each running job.
        run_path: contains one small file for each live runner, by which a restarted worker finds it.
        job_ttl_minutes: age at which the leftovers of a crash are removed at the latest.
        own_network: each job has a network of its own.
        agent_proxy_url: filtering proxy through which agents with a network of their own reach hosts.
        agent_addresses: servers that agents with a network of their own reach directly.
        links: which links without TLS are secure; those to ``control_url`` and ``broker_url`` are.
        git_certificates: certificates as PEM; the worker writes them to ``git.ca_file`` when it starts.
    """

    shard_id: str
    shard_type: str
    control_url: str
    broker_url: str = field(repr=False)
    shard_key: str = field(repr=False)
    capabilities: tuple[str, ...]
    max_concurrent_jobs: int
    workspace_path: Path
    run_path: Path
    job_ttl_minutes: int
    executor: str
    cli_path: Path | None
    mcp_servers: Mapping[str, McpServer]
    limits: ResourceLimits
    first_agent_uid: int
    allow_unsandboxed: bool
    allow_unlimited: bool
    own_network: bool
    agent_proxy_url: str | None
    agent_addresses: tuple[DirectAddress, ...]
    min_free_mb: int
    git: GitPolicy
    links: LinkPolicy
    git_certificates: str = ""

    @property
    def addresses(self) -> tuple[DirectAddress, ...]:
        """Servers that any agent of this shard may reach directly."""
        of_servers = {address for server in self.mcp_servers.values() for address in server.addresses}
        return tuple(sorted(of_servers | set(self.agent_addresses)))


class _ConfigReader:
    """Reader that takes typed values out of one JSON object and refuses the keys that are left at the end."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{where or 'The configuration'} must be a JSON object.")
        self._values = dict(values)
        self._prefix = f"{where}." if where else ""

    def has(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        value = self._values.pop(key, default)
        if value is None:
            raise ConfigError(f"{self._prefix}{key} is missing.")
        # Python counts a bool as an int, but the file must not.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(f"{self._prefix}{key} must be {_KINDS[kind]}.")
        return value

    def number(self, key: str, default: int, low: int, high: int) -> int:
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise ConfigError(f"{self._prefix}{key} must be from {low} to {high}.")
        return value

    def texts(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        values = self.take(key, list, default)
        if not all(isinstance(value, str) for value in values):
            raise ConfigError(f"{self._prefix}{key} must be a list of texts.")
        return tuple(values)

    def addresses(self, key: str) -> tuple[DirectAddress, ...]:
        try:
            return tuple(sorted({parse_direct_address(text) for text in self.texts(key, [])}))
        except ValueError as error:
            raise ConfigError(f"{self._prefix}{key}: {error}.") from error

    def path(self, key: str) -> Path | None:
        value = self.take(key, str, "")
        if value and not Path(value).is_absolute():
            raise ConfigError(f"{self._prefix}{key} must be an absolute path.")
        return Path(value) if value else None

    def section(self, key: str) -> _ConfigReader:
        return _ConfigReader(self._values.pop(key, {}), self._prefix + key)

    def items(self) -> list[tuple[str, _ConfigReader]]:
        found = [(name, _ConfigReader(value, self._prefix + name)) for name, value in self._values.items()]
        self._values.clear()
        return found

    def close(self) -> None:
        if self._values:
            raise ConfigError(f"{self._prefix}{min(self._values)} is not a setting of this version; remove it.")


_KINDS: dict[type, str] = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}


def used_token_path(path: Path) -> Path:
    """Return the path of the digest of the token that was exchanged for the configuration at ``path``."""
    return path.with_name(path.name + ".token")


def load_config(path: Path) -> ShardConfig:
    """Read and check a shard's configuration.

    Raises:
        ConfigError: the file is missing or not JSON, a key is missing, unknown or of the wrong type, or a link would
            carry a key in clear text.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    return parse_config(values, is_enrolled=used_token_path(path).is_file())


def parse_config(values: Any, *, is_enrolled: bool = False) -> ShardConfig:
    """Check the configuration's values.

    Args:
        values: content of the file.
        is_enrolled: the values came from an enrolment some time ago, perhaps with an earlier release.

    Raises:
        ConfigError: see ``load_config``.
    """
    top = _ConfigReader(values, "")
    agent, sandbox, cleanup = top.section("claude_code"), top.section("sandbox"), top.section("cleanup")
    run_path = top.path("run_path") or Path("/run/claude-shard")
    limits = _limits(sandbox)
    git_section = top.section("git")
    git_certificates = git_section.take("ca_certificates", str, "")
    workspace_path = cleanup.path("workspace_path") or Path("/var/lib/claude-shard/jobs")
    git = _git(git_section, run_path / GIT_CERTIFICATES if git_certificates else None, limits, workspace_path)
    config = ShardConfig(
        shard_id=_slug(top.take("shard_id", str), "shard_id"),
        shard_type=top.take("shard_type", str, "general"),
        control_url=_url(top.take("control_url", str), "control_url", ("http", "https")),
        broker_url=_url(top.take("broker_url", str), "broker_url", ("redis", "rediss")),
        shard_key=top.take("shard_key", str),
        capabilities=tuple(sorted({_slug(name, "capabilities") for name in top.texts("capabilities")})),
        max_concurrent_jobs=top.number("max_concurrent_jobs", 1, 1, 64),
        workspace_path=workspace_path,
        run_path=run_path,
        job_ttl_minutes=cleanup.number("job_ttl_minutes", 60, 1, 100_000),
        executor=_one_of(top.take("executor", str, EXECUTORS[0]), "executor", EXECUTORS),
        cli_path=agent.path("cli_path"),
        mcp_servers={name: _mcp_server(reader) for name, reader in agent.section("mcp_servers").items()},
        limits=limits,
        first_agent_uid=sandbox.number("first_agent_uid", FIRST_AGENT_UID, 1000, 2**31),
        allow_unsandboxed=sandbox.take("allow_unsandboxed", bool, False),
        allow_unlimited=sandbox.take("allow_unlimited", bool, False),
        own_network=_one_of(sandbox.take("network", str, JobNetwork.JOB), "sandbox.network", tuple(JobNetwork))
        == JobNetwork.JOB,
        # An empty text means none, so that an operator can keep agents from the proxy of git.
        agent_proxy_url=_proxy(sandbox.take("proxy_url", str, git.proxy_url or ""), "sandbox.proxy_url"),
        agent_addresses=sandbox.addresses("addresses"),
        min_free_mb=sandbox.number("min_free_mb", 1024, 0, 1_048_576),
        git=git,
        links=_links(top, is_enrolled),
        git_certificates=git_certificates,
    )
    for reader in (agent, sandbox, cleanup, top):
        reader.close()
    if len(config.addresses) > MAX_ADDRESSES:
        raise ConfigError(f"sandbox.addresses and those of the MCP servers are more than {MAX_ADDRESSES} addresses.")
    for name, url in (("control_url", config.control_url), ("broker_url", config.broker_url)):
        if problem := config.links.problem(name, url):
            raise ConfigError(problem)
    return config


def _limits(sandbox: _ConfigReader) -> ResourceLimits:
    disk_mb = sandbox.number("disk_mb", ResourceLimits.disk_mb, 64, 16_777_216)
    most_files = disk_mb * MAX_FILES_PER_MB
    limits = ResourceLimits(
        memory_mb=sandbox.number("memory_mb", 2048, 64, 1_048_576),
        processes=sandbox.number("processes", 256, 8, 65_536),
        file_size_mb=sandbox.number("file_size_mb", min(ResourceLimits.file_size_mb, disk_mb), 1, 1_048_576),
        disk_mb=disk_mb,
        disk_files=sandbox.number("disk_files", min(ResourceLimits.disk_files, most_files), 1000, most_files),
    )
    if limits.file_size_mb > disk_mb:
        raise ConfigError(
            f"sandbox.file_size_mb allows a file of {limits.file_size_mb} MB, but the job's whole disk has "
            f"sandbox.disk_mb, {disk_mb} MB; lower the first or raise the second."
        )
    return limits


def _links(reader: _ConfigReader, is_enrolled: bool) -> LinkPolicy:
    is_stated = reader.has(PLAIN_NETWORKS)
    try:
        networks = parse_networks(reader.texts(PLAIN_NETWORKS, []))
    except ValueError as error:
        raise ConfigError(f"{PLAIN_NETWORKS}: {error}; write networks such as 10.0.0.0/24.") from error
    return LinkPolicy(networks, any_address=is_enrolled and not is_stated)


def _max_repo_mb(reader: _ConfigReader, limits: ResourceLimits) -> int:
    """Return the bound of a fetched pack, which must fit into the checkout, and with it on the job's disk."""
    half_disk_mb = limits.disk_mb // COPIES
    bounds = {"sandbox.file_size_mb": limits.file_size_mb, f"{COPIES} times in sandbox.disk_mb": half_disk_mb}
    value = reader.number("max_repo_mb", min(bounds.values()), 1, 1_048_576)
    for name, bound in bounds.items():
        if value > bound:
            raise ConfigError(
                f"git.max_repo_mb allows a repository of {value} MB, but only {bound} MB fit {name}; "
                "lower the first or raise the second."
            )
    return value


def _git(reader: _ConfigReader, certificates: Path | None, limits: ResourceLimits, workspace_path: Path) -> GitPolicy:
    proxy = _proxy(reader.take("proxy_url", str, ""), "git.proxy_url")
    schemes = frozenset(reader.texts("schemes", ["https", "ssh"]))
    policy = GitPolicy(
        # The proxy forwards only https, and no other traffic may bypass it.
        schemes=schemes - {"ssh"} if proxy else schemes,
        allowed_private_hosts=frozenset(reader.texts("allowed_private_hosts", [])),
        ca_file=reader.path("ca_file") or certificates,
        known_hosts=reader.path("known_hosts"),
        proxy_url=proxy,
        file_roots=_folders(reader.texts("file_roots", []), "git.file_roots"),
        max_repo_mb=_max_repo_mb(reader, limits),
        max_bundle_mb=min(GitPolicy.max_bundle_mb, limits.file_size_mb),
        max_files=reader.number("max_files", GitPolicy.max_files, 1, 10_000_000),
        push_retry_s=reader.number("push_retry_s", GitPolicy.push_retry_s, 0, 3600),
        lfs_program=_find_program("git-lfs"),
        submodules=reader.take("submodules", bool, True),
        # Packs move between the two folders, which are best on one disk.
        object_cache=workspace_path.with_name(f"{workspace_path.name}-objects"),
        object_cache_mb=reader.number("object_cache_mb", GitPolicy.object_cache_mb, 0, 16_777_216),
    )
    unknown = sorted(schemes - {"https", "ssh", "file"})
    if unknown:
        raise ConfigError(f"git.schemes contains {unknown[0]!r}; use only https, ssh and file.")
    if "file" in schemes and not policy.file_roots:
        raise ConfigError("git.schemes contains file, which needs git.file_roots: the folders of these repositories.")
    reader.close()
    return policy


def _find_program(name: str) -> Path | None:
    found = shutil.which(name, path=PATH)
    return Path(found) if found else None


def _folders(values: tuple[str, ...], key: str) -> tuple[str, ...]:
    for value in values:
        if not is_plain_path(value):
            raise ConfigError(f"{key} contains {value!r}, which is not the absolute path of a folder below /.")
    return values


def _proxy(value: str, key: str) -> str | None:
    if not value:
        return None
    url = _url(value, key, ("http", "https"))
    if not is_proxy_url(url):
        raise ConfigError(f"{key} must be only a proxy's address, such as http://10.0.0.1:3128.")
    return url


def _mcp_server(reader: _ConfigReader) -> McpServer:
    environment = reader.section("env")
    server = McpServer(
        command=reader.take("command", str),
        args=reader.texts("args", []),
        env={name: environment.take(name, str) for name in list(environment._values)},
        capabilities=reader.texts("capabilities", []),
        addresses=reader.addresses("addresses"),
    )
    reader.close()
    return server


def _slug(value: Any, key: str) -> str:
    if not isinstance(value, str) or not is_slug(value):
        raise ConfigError(f"{key} contains {value!r}, which is not a lower-case slug (a-z, 0-9, inner dashes).")
    return value


def _one_of(value: str, key: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigError(f"{key} must be one of: {', '.join(allowed)}.")
    return value


def _url(value: str, key: str, schemes: tuple[str, ...]) -> str:
    try:
        is_known = urlsplit(value).scheme in schemes
    except ValueError:
        # Such as a bracket that is not closed.
        is_known = False
    if not is_known:
        raise ConfigError(f"{key} must be a URL that starts with {' or '.join(s + '://' for s in schemes)}.")
    return value.rstrip("/")
