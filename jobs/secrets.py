"""A job's secrets: sealed in its row, or named from the tenant's stored ones; gone when it ends."""

from __future__ import annotations

from typing import Any

from jobs.models import Job
from myctobot.tenants.secrets import read_secret, sealer

# A secret as the tenant gave it: the value itself, or {"secret": name}.
SecretSource = str | dict[str, str]

# Those that a runner gets in the answer to its claim. The others never leave the control plane.
RUNNER_SECRETS = ("repo_token",)


def seal_job_secrets(job: Job, sources: dict[str, SecretSource]) -> None:
    """Put the sources into ``job.sealed`` (not saved) and note which came with the request itself."""
    job.sealed = sealer().seal(sources, bound_to=job.binding) if sources else None
    job.inline_secrets = sorted(name for name, source in sources.items() if isinstance(source, str))
    job.named_secrets = {name: source["secret"] for name, source in sources.items() if isinstance(source, dict)}


def secret_sources(job: Job) -> dict[str, SecretSource]:
    """Return the job's secrets as given: values, or names of stored ones."""
    return sealer().unseal(job.sealed, bound_to=job.binding) if job.sealed else {}


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
