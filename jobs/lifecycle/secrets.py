"""Secrets of a job: sealed in its row or named from the tenant's stored ones, and wiped when the job ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from jobs.models import Job
from myctobot.contract.redaction import Redactor, WithholdingRedactor, secret_encodings
from myctobot.lib.crypto import CannotUnseal
from myctobot.lib.sql import fetch_one
from myctobot.tenants.models import Role
from myctobot.tenants.secret_bindings import SecretPurpose, SecretUse
from myctobot.tenants.secrets import SecretNotAllowed, UnknownSecret, read_secret, sealer

# A secret as the tenant gave it: its value, or {"secret": name} for a stored one.
SecretSource = str | dict[str, str]

# The answer to a claim holds these secrets only. The others never leave the control plane.
RUNNER_SECRETS: Final = ("repo_token",)

# The field of a request for a job that holds each secret, and the purpose that a stored one must have.
_REQUEST_FIELDS: Final = {"repo_token": "task.repo_token", "jira_token": "context.jira_token"}
PURPOSES: Final = {
    "repo_token": SecretPurpose.REPOSITORY,
    "jira_token": SecretPurpose.TRACKER,
    "anthropic_api_key": SecretPurpose.PROVIDER,
}


@dataclass(frozen=True)
class SecretRights:
    """Facts of a job that decide which stored secrets it may use.

    Attributes:
        role: of the member or API key that started the job; None if that has left the tenant.
        repo_url: of the job's repository; empty for none.
    """

    role: str | None
    repo_url: str

    @classmethod
    def of(cls, job: Job) -> SecretRights:
        """Read the rights that a stored job has now: its caller may have another role than at the submit."""
        row = fetch_one(_RIGHTS, {"job": job.pk})
        return cls(*row) if row else cls(None, "")

    def use_of(self, name: str) -> SecretUse:
        """Return the use that a job makes of the secret with a name such as ``repo_token``."""
        purpose = PURPOSES[name]
        repo_url = self.repo_url if purpose == SecretPurpose.REPOSITORY else ""
        return SecretUse(purpose, Role.included_in(self.role or ""), repo_url)


_RIGHTS: Final = """
    SELECT CASE WHEN job.api_key_id IS NULL THEN member.role ELSE key.role END, COALESCE(job.task ->> 'repo_url', '')
    FROM jobs_job AS job
        LEFT JOIN tenants_apikey AS key ON key.id = job.api_key_id AND key.tenant_id = job.tenant_id
        LEFT JOIN tenants_member AS member ON member.user_id = job.created_by_id AND member.tenant_id = job.tenant_id
    WHERE job.id = %(job)s
"""


class JobSecrets:
    """Secrets of one job as its tenant gave them.

    A request brings them in, ``seal_into`` checks and stores them, ``of`` opens what a job stores, and ``values``
    returns the plain text.

    Args:
        sources: each secret by its name, as ``SecretSource`` says.
    """

    def __init__(self, sources: Mapping[str, SecretSource]) -> None:
        self._inline = {name: source for name, source in sources.items() if isinstance(source, str)}
        self._stored = {name: source["secret"] for name, source in sources.items() if not isinstance(source, str)}
        self._sources = dict(sources)

    def __repr__(self) -> str:
        return f"JobSecrets({sorted(self._sources)})"

    @classmethod
    def of(cls, job: Job) -> JobSecrets:
        """Open the secrets that a job stores; none if they were wiped or never given.

        Raises:
            CannotUnseal: the key that sealed them is gone.
        """
        if not job.encrypted_secrets:
            return cls({})
        return cls(sealer().unseal(job.encrypted_secrets, bound_to=job.binding))

    def misplaced_in(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Find readable texts that hold one of the given values, in any encoding.

        Args:
            texts: texts that are stored unsealed, by field.

        Returns:
            Name of the secret, by the field that holds it. Values of stored secrets are not compared.
        """
        encodings = {name: secret_encodings(value) for name, value in self._inline.items()}
        return {
            field: name
            for field, text in texts.items()
            for name, found in encodings.items()
            if any(encoding in text for encoding in found)
        }

    def seal_into(self, job: Job, role: str, *, is_retry: bool = False) -> None:
        """Check that the job may use each stored secret, and put all secrets into a job that is not saved yet.

        Args:
            job: tenant and task are set.
            role: of the caller.
            is_retry: the request names secrets at its top level, so errors do too.

        Raises:
            UnknownSecret: a stored secret does not exist or no key opens it; the error names the request's field.
            SecretNotAllowed: a stored secret is not bound to this use; the error names the request's field.
        """
        rights = SecretRights(role, str(job.task.get("repo_url") or ""))
        for name, stored in self._stored.items():
            field = name if is_retry else _REQUEST_FIELDS.get(name, name)
            try:
                read_secret(job.tenant_id, stored, rights.use_of(name))
            except (UnknownSecret, SecretNotAllowed) as error:
                raise type(error)(fields={field: [error.message]}) from error
            except CannotUnseal as error:
                problem = f"The stored secret '{stored}' cannot be opened any more; store it again."
                raise UnknownSecret(fields={field: [problem]}) from error
        job.encrypted_secrets = sealer().seal(self._sources, bound_to=job.binding) if self._sources else None
        job.inline_secrets, job.named_secrets = sorted(self._inline), dict(self._stored)

    def values(self, job: Job, only: Collection[str] | None = None) -> dict[str, str]:
        """Return the plain text of the secrets, by name, to send them to their destinations.

        Args:
            job: the stored job that has the secrets.
            only: names of the wanted secrets; None for all.

        Raises:
            UnknownSecret: a stored secret is gone.
            SecretNotAllowed: the job may not use a stored secret any more.
            CannotUnseal: the key that sealed a stored secret is gone.
        """
        wanted = [name for name in self._sources if only is None or name in only]
        rights = SecretRights.of(job) if any(name in self._stored for name in wanted) else SecretRights(None, "")
        return {
            name: self._inline[name]
            if name in self._inline
            else read_secret(job.tenant_id, self._stored[name], rights.use_of(name))
            for name in wanted
        }

    def values_to_mask(self, tenant_id: int) -> list[str]:
        """Return the plain text of all secrets, also of those that the job may not use any more.

        Raises:
            UnknownSecret: a stored secret is gone.
            CannotUnseal: the key that sealed a stored secret is gone.
        """
        return [*self._inline.values(), *(read_secret(tenant_id, stored) for stored in self._stored.values())]


def secrets_for_runner(job: Job) -> dict[str, str]:
    """Return the plain text of the secrets that the runner of a job gets.

    The other secrets are checked too, because a job that cannot use one of them must not start.

    Raises:
        UnknownSecret: a stored secret is gone.
        SecretNotAllowed: the job may not use a stored secret any more.
        CannotUnseal: the key that sealed a secret is gone.
    """
    found = JobSecrets.of(job).values(job)
    return {name: value for name, value in found.items() if name in RUNNER_SECRETS}


def redactor_for(job: Job, tokens: Collection[str]) -> Redactor:
    """Return the redactor of a shard's output, which masks the job's secrets and these tokens.

    A stored secret may be removed while the job runs, and a key may be lost. The job's events must continue, but none
    may contain the secret. So texts are withheld as soon as one secret is unknown.
    """
    try:
        return Redactor([*JobSecrets.of(job).values_to_mask(job.tenant_id), *tokens])
    except (UnknownSecret, CannotUnseal):
        return WithholdingRedactor()
