"""Check that a job can reach a model, so that no job waits for a shard only to fail at its first call."""

from __future__ import annotations

from typing import Final

from django.conf import settings

from jobs.errors import NoModelAccess
from jobs.lifecycle.job_request import JobRequest
from jobs.lifecycle.secrets import PURPOSES
from myctobot.tenants.authentication import Caller
from myctobot.tenants.secrets import usable_names

KEY_FIELD: Final = "anthropic_api_key"
# Every other upstream of the gateway calls a provider. Neither operators nor shards have a key or a login there.
KEYLESS_UPSTREAMS: Final = frozenset({"scripted"})
_MAX_NAMES: Final = 5


def needs_provider_key() -> bool:
    """Return true if only a job with a provider key of its own reaches a model."""
    return settings.GATEWAY_UPSTREAM not in KEYLESS_UPSTREAMS


def check_model_access(caller: Caller, request: JobRequest) -> None:
    """Check that a new job can reach a model.

    Raises:
        NoModelAccess: it has no provider key, and nothing else gives it access; the error says how to get one.
    """
    if not needs_provider_key() or request.secrets.get(KEY_FIELD):
        return
    names = usable_names(caller.tenant, caller.role, PURPOSES[KEY_FIELD])[:_MAX_NAMES]
    if names:
        remedy = f"Name a stored key here; you may use {', '.join(names)}."
    else:
        remedy = (
            "Your tenant stores no key that you may use. An admin can store one under Secrets in the console, or an "
            "operator with 'manage.py store_secret --purpose provider'; then name it here."
        )
    raise NoModelAccess(fields={KEY_FIELD: [f"A job needs a model provider key. {remedy}"]})
