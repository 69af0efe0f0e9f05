"""Tenants' stored secrets."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction

from myctobot.contract.limits import MIN_SECRET_LENGTH
from myctobot.errors import Conflict, InvalidRequest, NotFound
from myctobot.lib.crypto import Sealer, callback_keys_of
from myctobot.tenants.audit import record
from myctobot.tenants.models import Role, Secret, Tenant
from myctobot.tenants.secret_bindings import SecretBinding, SecretPurpose, SecretUse, binding_problems, use_problem

MAX_SECRET_LENGTH: Final = 20_000
# The texts that ``value_problem`` accepts, apart from their length: one line, or a key in PEM format.
SECRET_PATTERN: Final = rf"(?:[!-~](?: *[!-~]){{{MIN_SECRET_LENGTH - 1},}}|-----BEGIN [\u0001-\u007f]*)"
MAX_NAME_LENGTH: Final = 60
# Number of secrets that one tenant may store.
MAX_SECRETS: Final = 500


class UnknownSecret(InvalidRequest):
    """The tenant has no secret of that name."""

    code = "unknown_secret"


class SecretNotAllowed(InvalidRequest):
    """The stored secret is not bound to this purpose, host or role."""

    code = "secret_not_allowed"


class SecretMissing(NotFound):
    """Your tenant stores no secret of that name."""

    code = "unknown_secret"


class SecretExists(Conflict):
    """Your tenant has a secret of that name; change it, or choose another name."""

    code = "secret_exists"


def sealer() -> Sealer:
    """Return the sealer with the keys of ``SECRETS_KEYS``.

    Raises:
        ValueError: the setting is empty or malformed.
    """
    return Sealer(settings.SECRETS_KEYS)


def callback_keys() -> list[str]:
    """Return the keys that open only the secrets that sign callbacks, newest first.

    Raises:
        ValueError: a key of ``SECRETS_KEYS`` is malformed.
    """
    return callback_keys_of(settings.SECRETS_KEYS) or settings.CALLBACK_KEYS


def callback_sealer() -> Sealer:
    """Return the sealer of the secrets that sign callbacks.

    Raises:
        ValueError: the process has no keys, or a malformed one.
    """
    return Sealer(callback_keys())


def secret_binding(tenant_id: int, name: str) -> str:
    """Return the binding of a stored secret, so that no other row can use its sealed value."""
    return f"tenant:{tenant_id}:{name}"


def seal_value(secret: Secret, value: str) -> None:
    """Put a value into a row that is not saved yet; its tenant and name are set."""
    secret.sealed = sealer().seal({"value": value}, bound_to=secret_binding(secret.tenant_id, secret.name))


def bind(secret: Secret, binding: SecretBinding) -> None:
    """Put a binding that a person chose into a row that is not saved yet.

    Raises:
        InvalidRequest: the binding is not complete or not well-formed; the error lists the problems by field.
    """
    if problems := binding_problems(binding):
        raise InvalidRequest(fields={field: [problem] for field, problem in problems.items()})
    secret.purpose, secret.hosts, secret.min_role = binding.purpose.value, list(binding.hosts), binding.min_role


def store_secret(tenant: Tenant, name: str, value: str, binding: SecretBinding | None = None) -> Secret:
    """Store or replace the tenant's secret ``name``.

    Args:
        tenant: owner of the secret.
        name: slug of at most ``MAX_NAME_LENGTH`` characters.
        value: plain text of the secret.
        binding: None keeps the present binding; a new secret is then unbound.

    Raises:
        InvalidRequest: the binding is not complete or not well-formed.
    """
    row = Secret.objects.filter(tenant=tenant, name=name).first() or Secret(tenant=tenant, name=name)
    if binding is not None:
        bind(row, binding)
    seal_value(row, value)
    row.save()
    return row


def add_secret(tenant: Tenant, name: str, value: str, binding: SecretBinding, *, by: str) -> Secret:
    """Store a new secret of a tenant, bound, and record who did it.

    Raises:
        SecretExists: the tenant has a secret of this name.
        InvalidRequest: the binding is wrong, or the tenant has ``MAX_SECRETS`` secrets.
    """
    if Secret.objects.filter(tenant=tenant).count() >= MAX_SECRETS:
        raise InvalidRequest(fields={"name": [f"The tenant has {MAX_SECRETS} secrets; remove one first."]})
    row = Secret(tenant=tenant, name=name)
    bind(row, binding)
    seal_value(row, value)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            record(by, "secret.created", f"secret/{row}", _facts(row), tenant=tenant)
    except IntegrityError as error:
        raise SecretExists from error
    return row


@transaction.atomic
def change_secret(
    tenant: Tenant, name: str, *, by: str, value: str | None = None, binding: SecretBinding | None = None
) -> Secret:
    """Change the value or the binding of a tenant's secret, and record who did it.

    Args:
        tenant: owner of the secret.
        name: its name.
        by: name of the caller.
        value: new value; None keeps it.
        binding: new binding; None keeps it.

    Raises:
        SecretMissing: the tenant has no secret of this name.
        InvalidRequest: the binding is wrong.
    """
    row = find_secret(tenant, name, lock=True)
    before = _facts(row)
    if binding is not None:
        bind(row, binding)
    changes: dict[str, Any] = {
        field: {"was": before[field], "is": now} for field, now in _facts(row).items() if now != before[field]
    }
    if value is not None:
        seal_value(row, value)
        changes["value"] = "(set)"
    row.save()
    record(by, "secret.changed", f"secret/{row}", changes, tenant=tenant)
    return row


@transaction.atomic
def remove_secret(tenant: Tenant, name: str, *, by: str) -> None:
    """Remove a tenant's secret, and record who did it.

    Raises:
        SecretMissing: the tenant has no secret of this name.
    """
    row = find_secret(tenant, name, lock=True)
    record(by, "secret.removed", f"secret/{row}", tenant=tenant)
    row.delete()


def find_secret(tenant: Tenant, name: str, *, lock: bool = False) -> Secret:
    """Return a tenant's secret by its name, which may come from a URL.

    Raises:
        SecretMissing: the tenant has none of this name.
    """
    rows = Secret.objects.select_for_update() if lock else Secret.objects.all()
    found = rows.filter(tenant=tenant, name=name.replace("\x00", "")).first()
    if found is None:
        raise SecretMissing
    return found


def read_secret(tenant_id: int, name: str, use: SecretUse | None = None) -> str:
    """Return the value of a stored secret.

    Args:
        tenant_id: owner of the secret.
        name: its name.
        use: the intended use, which the binding must allow; None only where the value leaves no process, such as to
            mask it.

    Raises:
        UnknownSecret: no secret has this name.
        SecretNotAllowed: the binding does not allow the use.
        CannotUnseal: no current key opens it.
    """
    row = _stored(tenant_id, name)
    if use is not None:
        check_use(row, use)
    value: str = sealer().unseal(row.sealed, bound_to=secret_binding(tenant_id, name))["value"]
    return value


def check_use(secret: Secret, use: SecretUse) -> None:
    """Check that the binding of a secret allows a use.

    Raises:
        SecretNotAllowed: it does not; the message says what to change.
    """
    if problem := use_problem(secret.binding, use):
        raise SecretNotAllowed(f"The secret '{secret.name}' {problem}.")


def usable_names(tenant: Tenant, role: str, purpose: SecretPurpose) -> list[str]:
    """Return the names of the stored secrets that a role may use for a purpose, at some host."""
    roles = Role.included_in(role)
    rows = Secret.objects.filter(tenant=tenant, purpose=purpose.value, min_role__in=roles)
    if Role.ADMIN in roles:
        rows |= Secret.objects.filter(tenant=tenant, purpose=SecretPurpose.UNBOUND.value)
    return list(rows.order_by("name").values_list("name", flat=True))


def count_unbound(tenant: Tenant) -> int:
    """Return the number of a tenant's secrets that an admin still has to bind."""
    return Secret.objects.filter(tenant=tenant, purpose=SecretPurpose.UNBOUND.value).count()


def value_problem(value: str) -> str | None:
    """Return why a text cannot be the value of a secret, as a sentence, or None."""
    if not MIN_SECRET_LENGTH <= len(value) <= MAX_SECRET_LENGTH:
        return f"Must have {MIN_SECRET_LENGTH} to {MAX_SECRET_LENGTH} characters."
    if "\x00" in value or not value.isascii():
        return "Must be ASCII text."
    # Masking a shorter secret would also mask ordinary words of the output.
    if len("".join(value.split())) < MIN_SECRET_LENGTH:
        return f"Must have at least {MIN_SECRET_LENGTH} characters other than white space."
    # White space around a token comes from an editor or a shell, and a line break would split a header.
    if not value.startswith("-----BEGIN ") and (value != value.strip() or not value.isprintable()):
        return "Must be one line without white space around it; only a key in PEM format may have more lines."
    return None


def _stored(tenant_id: int, name: str) -> Secret:
    row = Secret.objects.filter(tenant_id=tenant_id, name=name).first()
    if row is None:
        raise UnknownSecret(f"The tenant has no secret named '{name}'; store it first, or send the value itself.")
    return row


def _facts(secret: Secret) -> dict[str, Any]:
    return {"purpose": secret.purpose, "hosts": list(secret.hosts), "min_role": secret.min_role}
