"""The audit log: whoever changes something that others rely on leaves an entry, in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from myctobot.tenants.models import AuditEntry, Tenant

log = structlog.get_logger(__name__)

_MASKED = "(changed)"
_SECRET_WORDS = ("secret", "password", "token", "key_hash")


def record(
    actor: str, action: str, subject: str, details: Mapping[str, Any] | None = None, *, tenant: Tenant | None = None
) -> AuditEntry:
    """Write down who did what to what.

    Args:
        actor: a login, an API key's name, or what a command or a rule is called.
        action: ``subject.action`` in the past tense, such as ``shard.drained``.
        subject: kind and name, such as ``shard/local-2``.
        details: what was and what is; values under names of secrets are masked.
    """
    kept = {name: _MASKED if _is_secret(name) else value for name, value in (details or {}).items()}
    log.info("audit", actor=actor, action=action, subject=subject)
    return AuditEntry.objects.create(
        actor=actor[:150], action=action[:60], subject=subject[:200], details=kept, tenant=tenant
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Name what differs: ``{field: {"was": …, "is": …}}``."""
    return {name: {"was": before.get(name), "is": value} for name, value in after.items() if before.get(name) != value}


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)
