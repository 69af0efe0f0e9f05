"""The commands that an operator types: keys and secrets."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from myctobot.lib.crypto import digest
from myctobot.tenants.authentication import find_api_key
from myctobot.tenants.models import ApiKey, AuditEntry, Role, Secret, Tenant
from myctobot.tenants.secret_bindings import UNBOUND, SecretBinding, SecretPurpose
from myctobot.tenants.secrets import read_secret, store_secret

pytestmark = pytest.mark.django_db

VALUE = "ghp_canary0123456789"


@pytest.fixture
def tenant() -> Tenant:
    return Tenant.objects.create(slug="acme", name="Acme")


def run(*command: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*command, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def store(
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    *,
    name: str = "github",
    tenant: str = "acme",
    options: Sequence[str] = (),
) -> tuple[str, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return run("store_secret", "--tenant", tenant, "--name", name, *options)


# --- create_api_key ---------------------------------------------------------------------------------


def test_the_key_alone_is_printed_and_opens_the_api(tenant: Tenant) -> None:
    out, err = run("create_api_key", "--tenant", "acme", "--name", "my-laptop")
    key = out.strip()
    row = find_api_key(key)
    assert row is not None
    assert (row.tenant, row.name, row.role, row.expires_at) == (tenant, "my-laptop", Role.MEMBER, None)
    assert key not in err
    assert row.prefix in err


def test_a_new_key_is_in_the_audit_log_without_its_value(tenant: Tenant) -> None:
    key = run("create_api_key", "--tenant", "acme", "--name", "my-laptop")[0].strip()
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.tenant) == ("manage.py create_api_key", "api-key.created", tenant)
    assert entry.subject == f"api-key/my-laptop ({key[:12]}…)"
    assert entry.details == {"prefix": key[:12], "role": "member", "valid": "until it is revoked"}


def test_a_key_can_have_a_role_and_an_end(tenant: Tenant) -> None:
    run("create_api_key", "--tenant", "acme", "--name", "reports", "--role", "viewer", "--days", "7")
    row = ApiKey.objects.get(name="reports")
    assert row.role == Role.VIEWER
    assert row.expires_at is not None
    assert timedelta(days=6) < row.expires_at - datetime.now(UTC) <= timedelta(days=7)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--tenant", "nobody", "--name", "x"], "Known: acme"),
        (["--tenant", "acme", "--name", " "], "--name"),
        (["--tenant", "acme", "--name", "x", "--days", "0"], "--days"),
        (["--tenant", "acme", "--name", "x", "--role", "king"], "--role"),
        (["--tenant", "acme"], "--name"),
    ],
)
def test_a_key_for_an_unknown_tenant_or_role_is_refused(tenant: Tenant, arguments: list[str], named: str) -> None:
    with pytest.raises(CommandError, match=named):
        run("create_api_key", *arguments)
    assert not ApiKey.objects.exists()


# --- store_secret -----------------------------------------------------------------------------------


def test_a_secret_is_read_from_the_input_and_never_shown(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    said = store(monkeypatch, f"{VALUE}\n")
    assert read_secret(tenant.pk, "github") == VALUE
    assert VALUE not in "".join(said)
    assert VALUE not in Secret.objects.get().sealed


def test_storing_again_replaces(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (VALUE, "another-value"):
        store(monkeypatch, value)
    assert read_secret(tenant.pk, "github") == "another-value"
    assert Secret.objects.count() == 1


def test_a_key_of_several_lines_keeps_its_line_ends(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----\n"
    store(monkeypatch, key)
    assert read_secret(tenant.pk, "github") == key


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("github", "short", "5 characters"),
        ("github", "x" * 20_001, "20001 characters"),
        ("github", "pässword", "ASCII"),
        ("git hub", VALUE, "--name"),
        ("", VALUE, "--name"),
    ],
)
def test_a_secret_that_no_job_could_use_is_refused(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    with pytest.raises(CommandError, match=named):
        store(monkeypatch, value, name=name)
    assert not Secret.objects.exists()


def test_a_new_secret_is_bound_by_options(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--purpose", "repository", "--host", "GitHub.com", "--host", "*.example.com"]
    said = store(monkeypatch, VALUE, options=options)
    expected = SecretBinding(SecretPurpose.REPOSITORY, ("github.com", "*.example.com"), Role.MEMBER)
    assert Secret.objects.get().binding == expected
    assert "not bound" not in "".join(said)
    store(monkeypatch, "another-value")
    assert Secret.objects.get().binding == expected


def test_a_secret_without_a_purpose_is_unbound_and_the_command_says_so(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = store(monkeypatch, VALUE)
    assert Secret.objects.get().binding == UNBOUND
    assert "only admins can use it. Bind it with --purpose" in "".join(said)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--purpose", "repository"], "--host: Name the hosts"),
        (["--purpose", "repository", "--host", "https://github.com"], "--host: 'https://github.com' is not a host"),
        (["--purpose", "provider", "--host", "github.com"], "--host: Leave this empty"),
        (["--host", "github.com"], "need --purpose"),
        (["--purpose", "unbound"], "--purpose"),
    ],
)
def test_a_wrong_binding_is_refused_by_its_option(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, options: list[str], named: str
) -> None:
    with pytest.raises(CommandError, match=named):
        store(monkeypatch, VALUE, options=options)
    assert not Secret.objects.exists()


# --- rotate_secrets ---------------------------------------------------------------------------------


def test_after_a_rotation_the_old_key_can_go(tenant: Tenant, settings: Any) -> None:
    old, new = settings.SECRETS_KEYS[0], Fernet.generate_key().decode()
    store_secret(tenant, "github", VALUE)
    settings.SECRETS_KEYS = [new, old]
    assert "1 row" in run("rotate_secrets")[0]
    settings.SECRETS_KEYS = [new]
    assert read_secret(tenant.pk, "github") == VALUE


def test_a_waiting_jobs_secrets_are_rotated_too(tenant: Tenant, settings: Any) -> None:
    from jobs.lifecycle.secrets import JobSecrets
    from jobs.models import Job

    job = Job(tenant=tenant, task={}, capabilities=["git"], timeout_s=60, max_turns=1)
    JobSecrets({"repo_token": VALUE}).seal_into(job, Role.MEMBER)
    job.save()
    new = Fernet.generate_key().decode()
    settings.SECRETS_KEYS = [new, *settings.SECRETS_KEYS]
    run("rotate_secrets")
    settings.SECRETS_KEYS = [new]
    job.refresh_from_db()
    assert JobSecrets.of(job).values(job) == {"repo_token": VALUE}


def test_secrets_of_callbacks_are_rotated_with_their_own_keys(tenant: Tenant, settings: Any) -> None:
    from jobs.callbacks import signing

    before = signing.secret_of(tenant)
    new = Fernet.generate_key().decode()
    settings.SECRETS_KEYS = [new, *settings.SECRETS_KEYS]
    run("rotate_secrets")
    settings.SECRETS_KEYS = [new]
    printed = run("callback_keys")[0].strip()
    # A control worker has only these.
    settings.SECRETS_KEYS, settings.CALLBACK_KEYS = [], printed.partition("=")[2].split(",")
    assert signing.secret_of(tenant) == before


def test_the_keys_of_callbacks_need_keys_to_derive_them_from(settings: Any) -> None:
    settings.SECRETS_KEYS, settings.CALLBACK_KEYS = [], []
    with pytest.raises(CommandError, match="SECRETS_KEYS is empty"):
        run("callback_keys")


def test_a_row_that_no_key_opens_is_named_and_the_others_are_rotated(tenant: Tenant, settings: Any) -> None:
    ours = settings.SECRETS_KEYS[0]
    settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
    lost = store_secret(tenant, "lost", VALUE)
    settings.SECRETS_KEYS = [ours]
    store_secret(tenant, "kept", VALUE)
    new = Fernet.generate_key().decode()
    settings.SECRETS_KEYS = [new, ours]
    with pytest.raises(CommandError, match=f"tenants.Secret {lost.pk}"):
        run("rotate_secrets")
    settings.SECRETS_KEYS = [new]
    assert read_secret(tenant.pk, "kept") == VALUE


def test_only_the_digest_of_a_key_is_stored(tenant: Tenant) -> None:
    key = run("create_api_key", "--tenant", "acme", "--name", "x")[0].strip()
    assert ApiKey.objects.get().key_hash == digest(key)
