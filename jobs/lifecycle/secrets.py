"""A job's secrets: sealed in its row, or named from the tenant's stored ones; gone when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from jobs.models.job import Job
from myctobot.contract.jobs import secret_spellings
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.models import Tenant
from myctobot.tenants.secrets import UnknownSecret, read_secret, sealer

# A secret as the tenant gave it: the value itself, or {"secret": name}.
SecretSource = str | dict[str, str]

# Those that a runner gets in the answer to its claim. The others never leave the control plane.
RUNNER_SECRETS = ("repo_token",)

# Where each stands in a request for a job.
REQUEST_FIELDS = {"repo_token": "task.repo_token", "jira_token": "context.jira_token"}


def seal_job_secrets(job: Job, sources: dict[str, SecretSource]) -> None:
    """Put the sources into ``job.sealed`` (not saved) and note which came with the request itself."""
    job.sealed = sealer().seal(sources, bound_to=job.binding) if sources else None
    job.inline_secrets = sorted(name for name, source in sources.items() if isinstance(source, str))
    job.named_secrets = {name: source["secret"] for name, source in sources.items() if isinstance(source, dict)}


def secret_sources(job: Job) -> dict[str, SecretSource]:
    """Return the job's secrets as given: values, or names of stored ones."""
    return sealer().unseal(job.sealed, bound_to=job.binding) if job.sealed else {}


def check_secrets(tenant: Tenant, sources: dict[str, SecretSource], fields: dict[str, str]) -> None:
    """See that every stored secret that a request names can be read.

    Args:
        tenant: whose.
        sources: the job's secrets.
        fields: where in the request each stands, for the error.

    Raises:
        UnknownSecret: one is not there, or no key opens it any more; its field is named.
    """
    for name, source in sources.items():
        if isinstance(source, str):
            continue
        try:
            read_secret(tenant.pk, source["secret"])
        except UnknownSecret as error:
            raise UnknownSecret(fields={fields.get(name, name): [error.message]}) from error
        except CannotUnseal as error:
            problem = f"The stored secret '{source['secret']}' cannot be opened any more; store it anew."
            raise UnknownSecret(fields={fields.get(name, name): [problem]}) from error


def misplaced_secrets(texts: Mapping[str, str], sources: Mapping[str, SecretSource]) -> dict[str, str]:
    """Find fields that are stored readably and yet hold a secret of the same request, in any spelling.

    Args:
        texts: what is stored as it is, by field.
        sources: the request's secrets; stored ones that it names are not looked at.

    Returns:
        The name of the secret, by the field that holds it.
    """
    spellings = {name: secret_spellings(value) for name, value in sources.items() if isinstance(value, str)}
    return {
        field: name
        for field, text in texts.items()
        for name, found in spellings.items()
        if any(spelling in text for spelling in found)
    }


def masked_values(job: Job) -> list[str]:
    """The job's secrets as far as they can be read now, to mask them in what a shard sends.

    A stored one may have been removed while the job runs: that must not stop its events, and its runner,
    which has the value, masks it as well.
    """
    try:
        names = secret_sources(job)
    except CannotUnseal:
        return []
    values: list[str] = []
    for name in names:
        with suppress(UnknownSecret, CannotUnseal):
            values.extend(job_secrets(job, name).values())
    return values


def job_secrets(job: Job, *names: str) -> dict[str, str]:
    """Return the values of the job's secrets, all of them or those named.

    Raises:
        UnknownSecret: a stored one that the job names is gone.
        CannotUnseal: the key that sealed one is gone.
    """
    sources: dict[str, Any] = secret_sources(job)
    return {
        name: source if isinstance(source, str) else read_secret(job.tenant_id, source["secret"])
        for name, source in sources.items()
        if not names or name in names
    }
