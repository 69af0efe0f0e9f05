"""Secrets of a job: sealed in its row or named from the tenant's stored ones, and wiped when the job ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from jobs.models import Job
from myctobot.contract.redaction import Redactor, WithholdingRedactor, secret_encodings
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.secrets import UnknownSecret, read_secret, sealer

# A secret as the tenant gave it: its value, or {"secret": name} for a stored one.
SecretSource = str | dict[str, str]

# The answer to a claim holds these secrets only. The others never leave the control plane.
RUNNER_SECRETS: Final = ("repo_token",)

# The field of a request for a job that holds each secret.
_REQUEST_FIELDS: Final = {"repo_token": "task.repo_token", "jira_token": "context.jira_token"}


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

    def seal_into(self, job: Job, *, is_retry: bool = False) -> None:
        """Check that each stored secret can be read, and put all secrets into a job that is not saved yet.

        Args:
            job: the tenant is set.
            is_retry: the request names secrets at its top level, so errors do too.

        Raises:
            UnknownSecret: a stored secret does not exist or no key opens it; the error names the request's field.
        """
        for name, stored in self._stored.items():
            field = name if is_retry else _REQUEST_FIELDS.get(name, name)
            try:
                read_secret(job.tenant_id, stored)
            except UnknownSecret as error:
                raise UnknownSecret(fields={field: [error.message]}) from error
            except CannotUnseal as error:
                problem = f"The stored secret '{stored}' cannot be opened any more; store it again."
                raise UnknownSecret(fields={field: [problem]}) from error
        job.encrypted_secrets = sealer().seal(self._sources, bound_to=job.binding) if self._sources else None
        job.inline_secrets, job.named_secrets = sorted(self._inline), dict(self._stored)

    def values(self, tenant_id: int, only: Collection[str] | None = None) -> dict[str, str]:
        """Return the plain text of the secrets, by name.

        Args:
            tenant_id: owner of the stored secrets.
            only: names of the wanted secrets; None for all.

        Raises:
            UnknownSecret: a stored secret is gone.
            CannotUnseal: the key that sealed a stored secret is gone.
        """
        return {
            name: self._inline[name] if name in self._inline else read_secret(tenant_id, self._stored[name])
            for name in self._sources
            if only is None or name in only
        }


def secrets_for_runner(job: Job) -> dict[str, str]:
    """Return the plain text of the secrets that the runner of a job gets.

    Raises:
        UnknownSecret: a stored secret is gone.
        CannotUnseal: the key that sealed a secret is gone.
    """
    return JobSecrets.of(job).values(job.tenant_id, RUNNER_SECRETS)


def redactor_for(job: Job, tokens: Collection[str]) -> Redactor:
    """Return the redactor of a shard's output, which masks the job's secrets and these tokens.

    A stored secret may be removed while the job runs, and a key may be lost. The job's events must continue, but none
    may contain the secret. So texts are withheld as soon as one secret is unknown.
    """
    try:
        return Redactor([*JobSecrets.of(job).values(job.tenant_id).values(), *tokens])
    except (UnknownSecret, CannotUnseal):
        return WithholdingRedactor()
