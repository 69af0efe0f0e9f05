"""Enrolment: a shard exchanges a one-time token for its key, its broker user and its configuration."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from myctobot.contract.shards import EnrolAnswer
from myctobot.lib.crypto import digest, new_token
from myctobot.tenants.audit import record
from myctobot.tenants.models import AuditEntry
from shards.broker_access import redis_acl as broker
from shards.broker_access.lock import one_at_a_time
from shards.errors import BadEnrolment
from shards.models import Shard
from shards.models.resources import Resources, resources_of
from shards.monitoring.alerts import alert
from shards.operations.models import Enrolment
from shards.operations.secure_links import require_secure_links

log = structlog.get_logger(__name__)

TOKEN_LIFE: Final = timedelta(minutes=30)
# Memory for the worker, a prepared runner and a running one; agents get the rest.
_OWN_MEMORY_MB: Final = 192
_MIN_AGENT_MB: Final = 128
_OWN_PROCESSES: Final = 128


def issue_token(shard: Shard, *, by: str, life: timedelta = TOKEN_LIFE) -> str:
    """Issue a token for a shard and revoke its earlier ones; only the digest is stored.

    Raises:
        InsecureLink, ProviderError: the shard would send its key in clear text; see ``require_secure_links``.
    """
    require_secure_links(shard)
    token = new_token("mcte")
    with transaction.atomic():
        Enrolment.objects.filter(shard=shard, used_at=None).delete()
        Enrolment.objects.create(shard=shard, token_hash=digest(token), created_by=by[:150], expires_at=Now() + life)
        record(by, "shard.enrolment_issued", f"shard/{shard.name}")
    return token


def enrol(token: str) -> EnrolAnswer:
    """Exchange a token once, and revoke the shard's earlier key and broker password.

    Raises:
        BadEnrolment: the token is unknown, used or expired. A second use is recorded, because the first user may
            have been an attacker.
        InsecureLink, ProviderError: the shard would send its key in clear text; the token stays valid.
        BrokerTooOld, BrokerUnreachable: the shard cannot get its own broker user; the token stays valid.
    """
    with one_at_a_time():
        rows = Enrolment.objects.select_for_update(of=("self",)).select_related("shard__pool", "shard__template")
        found = rows.filter(Q(expires_at__gt=Now()) | Q(used_at__isnull=False), token_hash=digest(token)).first()
        if found is None:
            raise BadEnrolment
        if found.used_at is None:
            return _issue_credentials(found)
    _report_repetition(found)
    raise BadEnrolment


def _report_repetition(enrolment: Enrolment) -> None:
    """Record and alert once per token, so that repeated uses cannot fill the audit log."""
    name = enrolment.shard.name
    reported = AuditEntry.objects.filter(
        subject=f"shard/{name}", action="shard.enrolment_repeated", at__gt=enrolment.created_at
    )
    log.error("enrolment.repeated", shard=name)
    if reported.exists():
        return
    record("enrolment", "shard.enrolment_repeated", f"shard/{name}")
    alert(
        "enrolment.repeated",
        f"The enrolment token of {name} was used twice",
        "The first use may have been an attack. Destroy the shard, or issue a new token for it.",
    )


def _issue_credentials(enrolment: Enrolment) -> EnrolAnswer:
    shard = enrolment.shard
    # The settings may have changed since the token was issued.
    plain_networks = require_secure_links(shard)
    key, password = shard.issue_key(), new_token("mctr")
    shard.broker_password_hash = digest(password)
    shard.save(update_fields=["broker_password_hash"])
    # Create the user before the commit, so that the shard never gets a user that does not exist.
    broker.grant(shard.name, shard.queues, shard.broker_password_hash)
    Enrolment.objects.filter(pk=enrolment.pk).update(used_at=Now())
    record("enrolment", "shard.enrolled", f"shard/{shard.name}")
    broker_url = broker.broker_url_for(shard.name, password)
    return EnrolAnswer(config=config_of(shard, key=key, broker_url=broker_url, plain_networks=plain_networks))


def config_of(shard: Shard, *, key: str, broker_url: str, plain_networks: list[str]) -> dict[str, Any]:
    """Return the content of a shard's ``config.json``; docs/shards.md lists the keys."""
    resources = resources_of(shard)
    git: dict[str, Any] = {
        "schemes": [scheme for scheme in settings.REPO_SCHEMES if scheme != "file"],
        "allowed_private_hosts": settings.REPO_PRIVATE_HOSTS,
    }
    if settings.SHARD_GIT_CA_FILE:
        git["ca_certificates"] = Path(settings.SHARD_GIT_CA_FILE).read_text()
    if settings.SHARD_PROXY_URL:
        git["proxy_url"] = settings.SHARD_PROXY_URL
    servers = {**(shard.template.mcp_servers if shard.template else {}), **shard.mcp_servers}
    addresses = {"addresses": settings.SHARD_AGENT_ADDRESSES} if settings.SHARD_AGENT_ADDRESSES else {}
    return {
        "shard_id": shard.name,
        "shard_type": shard.shard_type,
        "control_url": settings.SHARD_CONTROL_URL,
        "broker_url": broker_url,
        "shard_key": key,
        "plain_networks": plain_networks,
        "capabilities": shard.capabilities,
        "max_concurrent_jobs": shard.max_concurrent_jobs,
        "claude_code": {"mcp_servers": servers},
        "sandbox": {
            **_sandbox(resources, shard.max_concurrent_jobs),
            # A process shares the network of its host, with all services of the loopback there.
            "network": "job" if shard.provider == "process" else settings.SHARD_JOB_NETWORK,
            # Without this key, agents would use the proxy of git.
            "proxy_url": settings.SHARD_AGENT_PROXY_URL,
            **addresses,
        },
        "git": git,
    }


def _sandbox(resources: Resources, slots: int) -> dict[str, Any]:
    """Divide the container's resources among its slots, less what MyCTOBot needs itself."""
    return {
        "memory_mb": max(_MIN_AGENT_MB, (resources.memory_mb - _OWN_MEMORY_MB) // slots),
        "processes": max(64, (resources.processes - _OWN_PROCESSES) // slots),
        "file_size_mb": max(64, min(2048, resources.disk_mb // 4)),
    }
