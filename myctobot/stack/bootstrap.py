"""First data of an installation of the embedded stack: a tenant, a login, a key and the shards' configurations."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from myctobot.lib.crypto import digest
from myctobot.stack.home import GeneratedSecrets, write_private
from myctobot.stack.login import LOGIN
from myctobot.tenants.audit import record
from myctobot.tenants.models import ApiKey, Member, Role, Tenant
from shards.broker_access.accounts import grant_account
from shards.errors import BrokerRefused, BrokerTooOld
from shards.models import Shard, ShardType
from shards.operations.secure_links import accept_plain_links
from shards.providers.own_addresses import is_own_address

log = structlog.get_logger(__name__)

_CAPABILITIES = ["filesystem", "git"]
_ACTOR = "manage.py bootstrap"


def bootstrap(*, home: Path, shards: int, allow_unsandboxed: bool = False) -> dict[str, Any]:
    """Create what is missing and leave the rest unchanged.

    Args:
        home: the stack's folder. It holds keys that exist nowhere else in clear text; only its owner can read it.
        shards: how many process shards to configure: ``local``, ``local-2``, …
        allow_unsandboxed: the owner accepts agents without a sandbox on a machine where bubblewrap does not work.

    Returns:
        ``login``, ``password``, ``api_key`` and ``shards`` (each ``name`` and ``config``, a path).
    """
    password = GeneratedSecrets.load_or_create(home).admin_password
    with transaction.atomic():
        tenant, _ = Tenant.objects.get_or_create(slug="default", defaults={"name": "Default tenant"})
        _ensure_login(tenant, password)
        key = _ensure_api_key(tenant, home / "api_key")
        names = ["local", *(f"local-{number}" for number in range(2, shards + 1))]
        configured = [{"name": name, "config": str(_configure_shard(name, home, allow_unsandboxed))} for name in names]
        # Shards that this run does not start cannot take jobs.
        Shard.objects.filter(name__startswith="local").exclude(name__in=names).update(is_active=False)
    return {"login": LOGIN, "password": password, "api_key": key, "shards": configured}


def _ensure_login(tenant: Tenant, password: str) -> None:
    users = get_user_model().objects
    user = users.filter(username=LOGIN).first()
    if user is None:
        user = users.create_superuser(LOGIN, password=password)
        record(_ACTOR, "user.created", f"user/{LOGIN}", {"is_superuser": True}, tenant=tenant)
    Member.objects.get_or_create(tenant=tenant, user=user, defaults={"role": Role.ADMIN})


def _ensure_api_key(tenant: Tenant, path: Path) -> str:
    known = path.read_text().strip() if path.is_file() else ""
    if known and ApiKey.objects.filter(tenant=tenant, key_hash=digest(known), revoked_at=None).exists():
        return known
    row, key = ApiKey.create(tenant, "embedded stack", role=Role.ADMIN)
    record(_ACTOR, "api-key.created", f"api-key/{row}", {"prefix": row.prefix, "role": row.role}, tenant=tenant)
    write_private(path, key + "\n")
    return key


def _configure_shard(name: str, home: Path, allow_unsandboxed: bool) -> Path:
    folder = home / "shards" / name
    # The agent's user must be able to reach its workspace below, but must not list these folders.
    for directory in (home / "shards", folder):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    shard, _ = Shard.objects.update_or_create(
        name=name,
        defaults={
            "description": "A process on this host, run by the embedded stack.",
            "shard_type": ShardType.GENERAL,
            "capabilities": _CAPABILITIES,
            "max_concurrent_jobs": settings.LOCAL_SHARD["slots"],
            "is_active": True,
            # The heartbeat of an earlier run says nothing about this run.
            "last_heartbeat_at": None,
        },
    )
    path = folder / "config.json"
    config = _shard_config(shard, folder, _shard_key(shard, path), _broker_url(shard, path))
    # Without a sandbox and control groups, nothing limits the agents.
    config["sandbox"] |= {"allow_unsandboxed": allow_unsandboxed, "allow_unlimited": allow_unsandboxed}
    write_private(path, json.dumps(config, indent=1) + "\n")
    return path


def _shard_key(shard: Shard, path: Path) -> str:
    try:
        key = str(json.loads(path.read_text())["shard_key"])
    except (FileNotFoundError, ValueError, KeyError):
        return shard.issue_key()
    return key if digest(key) == shard.key_hash else shard.issue_key()


def _broker_url(shard: Shard, path: Path) -> str:
    """Return the broker's URL with the shard's own account, or the shared URL if the broker supports no accounts.

    An existing password of the shard stays valid.
    """
    try:
        present = str(json.loads(path.read_text())["broker_url"])
    except (FileNotFoundError, ValueError, KeyError):
        present = ""
    try:
        return grant_account(shard, present_url=present, address=settings.REDIS_URL)
    except (BrokerTooOld, BrokerRefused) as error:
        log.warning("shard.shares_the_broker", shard=shard.name, reason=error.message)
        Shard.objects.filter(pk=shard.pk).update(broker_password_hash=None)
        return settings.REDIS_URL


def _shard_config(shard: Shard, folder: Path, key: str, broker_url: str) -> dict[str, Any]:
    local = settings.LOCAL_SHARD
    return {
        "shard_id": shard.name,
        "shard_type": shard.shard_type,
        "control_url": settings.SHARD_API_URL,
        "broker_url": broker_url,
        "shard_key": key,
        "plain_networks": _plain_networks(),
        "capabilities": shard.capabilities,
        "max_concurrent_jobs": shard.max_concurrent_jobs,
        "executor": local["executor"],
        "run_path": str(folder / "run"),
        "claude_code": {"mcp_servers": _mcp_servers()},
        "sandbox": {
            "memory_mb": local["memory_mb"],
            "network": local["network"],
            "proxy_url": local["proxy_url"],
        },
        "git": {
            "schemes": settings.REPO_SCHEMES,
            "file_roots": settings.REPO_FILE_ROOTS,
            "allowed_private_hosts": settings.REPO_PRIVATE_HOSTS,
            "ca_file": local["git_ca_file"],
        },
        "cleanup": {"workspace_path": str(folder / "jobs"), "job_ttl_minutes": 60},
    }


def _plain_networks() -> list[str]:
    """Return the addresses without TLS that a local shard uses; traffic to this machine's own cannot be read.

    Raises:
        InsecureLink: the shard's key would travel to another machine in clear text.
    """
    names = ("SHARD_API_URL", "REDIS_URL", "GATEWAY_URL")
    return accept_plain_links({name: getattr(settings, name) for name in names}, is_own_address)


def _mcp_servers() -> dict[str, Any]:
    """Return the MCP server of the git capability if this environment has it installed."""
    program = Path(sys.executable).parent / "mcp-server-git"
    return {"git": {"command": str(program), "args": [], "env": {}}} if program.is_file() else {}
