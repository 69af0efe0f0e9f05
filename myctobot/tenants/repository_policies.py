"""Rights that a tenant gives to pushes of its jobs, by repository."""

from __future__ import annotations

import re
from typing import Final

from django.db import transaction

from myctobot.contract.repositories import is_plain_path, repository_name
from myctobot.contract.runner import PushPolicy
from myctobot.errors import InvalidRequest, NotFound
from myctobot.tenants.audit import differences, record
from myctobot.tenants.models import RepositoryPolicy, Tenant

_NAME: Final = re.compile(r"(?:[a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\]|[0-9a-f:]+)(?::[0-9]{1,5})?(/.+)")
_MAX_LENGTH: Final = 500
# Number of policies that one tenant may store.
MAX_POLICIES: Final = 500
_RIGHTS: Final = ("allow_ci_files", "allow_default_branch")


class UnknownPolicy(NotFound):
    """Your tenant has no policy for that repository."""

    code = "unknown_repository_policy"


def parse_repository(text: str) -> str:
    """Return the name under which a repository's policy is stored, from that name or from the repository's URL.

    Raises:
        InvalidRequest: names the field ``repository``.
    """
    try:
        name = repository_name(text) if "://" in text else repository_name(f"https://{text}")
        if text.startswith("/"):
            name = text.rstrip("/")
    except ValueError as error:
        raise _invalid() from error
    match = _NAME.fullmatch(name)
    path = match[1] if match else name
    if len(name) > _MAX_LENGTH or not name.isprintable() or " " in name or not is_plain_path(path):
        raise _invalid()
    return name


def _invalid() -> InvalidRequest:
    problem = f"Must be host and path, such as github.com/user/repo, or a URL, of at most {_MAX_LENGTH} characters."
    return InvalidRequest(fields={"repository": [problem]})


def set_policy(tenant: Tenant, repository: str, policy: PushPolicy, *, actor: str) -> RepositoryPolicy:
    """Store the policy of a repository, and record who changed what in the audit log.

    Args:
        repository: see ``parse_repository``.
        actor: name for the audit log.

    Raises:
        InvalidRequest: names the field ``repository``; also if the tenant has ``MAX_POLICIES`` others.
    """
    name = parse_repository(repository)
    with transaction.atomic():
        _lock_policies(tenant)
        row = RepositoryPolicy.objects.filter(tenant=tenant, repository=name).first()
        if row is None and RepositoryPolicy.objects.filter(tenant=tenant).count() >= MAX_POLICIES:
            raise InvalidRequest(fields={"repository": [f"The tenant has {MAX_POLICIES} policies; remove one first."]})
        before = {right: getattr(row, right) for right in _RIGHTS} if row else dict.fromkeys(_RIGHTS, False)
        row = row or RepositoryPolicy(tenant=tenant, repository=name)
        row.allow_ci_files, row.allow_default_branch = policy["allow_ci_files"], policy["allow_default_branch"]
        row.save()
        if changed := differences(before, dict(policy)):
            record(actor, "repository-policy.changed", f"repository-policy/{row}", changed, tenant=tenant)
    return row


def remove_policy(tenant: Tenant, repository: str, *, actor: str) -> None:
    """Remove the policy of a repository, so that pushes have no rights there, and record it in the audit log.

    Args:
        tenant: owner of the policy.
        repository: see ``parse_repository``.
        actor: name for the audit log.

    Raises:
        InvalidRequest: names the field ``repository``.
        UnknownPolicy: the tenant has none for it.
    """
    name = parse_repository(repository)
    with transaction.atomic():
        _lock_policies(tenant)
        row = RepositoryPolicy.objects.filter(tenant=tenant, repository=name).first()
        if row is None:
            raise UnknownPolicy
        rights = {right: getattr(row, right) for right in _RIGHTS}
        record(actor, "repository-policy.removed", f"repository-policy/{row}", rights, tenant=tenant)
        row.delete()


def find_policy(tenant: Tenant, policy_id: int) -> RepositoryPolicy:
    """Return a tenant's policy by its id, which may come from a URL.

    Raises:
        UnknownPolicy: the tenant has none with this id.
    """
    row = RepositoryPolicy.objects.filter(tenant=tenant, pk=policy_id).first()
    if row is None:
        raise UnknownPolicy
    return row


def _lock_policies(tenant: Tenant) -> None:
    """Let changes of a tenant wait for each other, so that they record true old values and keep the bound."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)


def read_policy(tenant_id: int, repo_url: str) -> PushPolicy:
    """Return the rights of a push to a repository, which are none unless the tenant stored others."""
    rows = RepositoryPolicy.objects.filter(tenant_id=tenant_id, repository=repository_name(repo_url))
    found = rows.values(*_RIGHTS).first() or {}
    return PushPolicy(
        allow_ci_files=found.get("allow_ci_files", False), allow_default_branch=found.get("allow_default_branch", False)
    )
