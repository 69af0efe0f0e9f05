"""Audit log: each change that others rely on leaves an entry in the same transaction."""

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
    """Record an action.

    Args:
        actor: a login, or the name of an API key, a command or a rule.
        action: ``subject.action`` in the past tense, such as ``shard.drained``.
        subject: kind and name, such as ``shard/local-2``.
        details: old and new values; the values of names that denote secrets are masked.
    """
    kept = {name: _MASKED if _is_secret(name) else value for name, value in (details or {}).items()}
    log.info("audit", actor=actor, action=action, subject=subject)
    return AuditEntry.objects.create(
        actor=actor[:150], action=action[:60], subject=subject[:200], details=kept, tenant=tenant
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that differ: ``{field: {"was": …, "is": …}}``."""
    return {name: {"was": before.get(name), "is": value} for name, value in after.items() if before.get(name) != value}


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)
