"""Tables of tenants, members, API keys, secrets and the audit log."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from myctobot.lib.crypto import digest, new_token
from myctobot.tenants.secret_bindings import PURPOSE_LABELS, SecretBinding, SecretPurpose


class Tenant(models.Model):
    """A customer; no data crosses from one tenant to another."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True)
    weight = models.PositiveSmallIntegerField(
        default=100,
        validators=[MinValueValidator(1), MaxValueValidator(10_000)],
        help_text="Its share of busy shards, in proportion to the weights of the others that wait.",
    )
    max_running_jobs = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: as many as shards take.")
    max_waiting_jobs = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: as MAX_WAITING_JOBS says.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.slug


class Role(models.TextChoices):
    """Roles of members; each role includes the rights of the roles before it."""

    VIEWER = "viewer", "Viewer: reads jobs"
    MEMBER = "member", "Member: starts and cancels jobs"
    ADMIN = "admin", "Admin: keys, secrets and members"

    @classmethod
    def included_in(cls, role: str) -> frozenset[str]:
        """Return a role and all roles whose rights it includes; empty for an unknown role."""
        known: list[str] = [each.value for each in cls]
        return frozenset(known[: known.index(role) + 1]) if role in known else frozenset()


class Member(models.Model):
    """Membership of a user in a tenant."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_a_user")]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} as {self.role}"


class ApiKey(models.Model):
    """Key of a program. Only its digest is stored; the visible prefix distinguishes keys."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    prefix = models.CharField(max_length=16, editable=False)
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def live(cls) -> models.QuerySet[ApiKey]:
        """Return the valid keys: not expired, not revoked, and of an active tenant."""
        unexpired = models.Q(expires_at=None) | models.Q(expires_at__gt=Now())
        return cls.objects.filter(unexpired, revoked_at=None, tenant__is_active=True)

    @classmethod
    def create(cls, tenant: Tenant, name: str, **fields: Any) -> tuple[ApiKey, str]:
        """Create a key for ``tenant``; the second value is the key itself, which is not stored."""
        key = new_token("mctb")
        row = cls.objects.create(tenant=tenant, name=name, prefix=key[:12], key_hash=digest(key), **fields)
        return row, key


# Lowest role that may use a secret, in words.
USER_ROLES: Final = [(Role.MEMBER.value, "members and admins"), (Role.ADMIN.value, "admins only")]


class Secret(models.Model):
    """Stored secret of a tenant; a job refers to it by its name."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="secrets")
    name = models.SlugField(max_length=60)
    sealed = models.TextField(editable=False)
    # The database has these defaults too: during an upgrade, processes of the old release still store rows.
    purpose = models.CharField(
        max_length=12,
        choices=[(purpose.value, text) for purpose, text in PURPOSE_LABELS.items()],
        db_default=SecretPurpose.UNBOUND.value,
        default=SecretPurpose.UNBOUND.value,
    )
    hosts = ArrayField(
        models.CharField(max_length=260),
        blank=True,
        default=list,
        db_default=[],
        help_text="For a repository: github.com, git.example.com:8443 or *.example.com. Without a port: 443 and 22.",
    )
    min_role = models.CharField(
        max_length=10,
        choices=USER_ROLES,
        db_default=Role.ADMIN.value,
        default=Role.ADMIN.value,
        verbose_name="may be used by",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "name"], name="secret_name_once_a_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant}/{self.name}"

    @property
    def binding(self) -> SecretBinding:
        """Return the limits on the use of the secret."""
        return SecretBinding(SecretPurpose(self.purpose), tuple(self.hosts), self.min_role)


class CallbackSecret(models.Model):
    """Signing secret of a tenant's callbacks, sealed; the previous one also signs for a day."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="callback_secret")
    # The column holds the current and the previous secret. Key rotation finds sealed columns by this name.
    sealed = models.TextField(editable=False)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.tenant}'s callback secret"


class RepositoryPolicy(models.Model):
    """Rights of pushes to one repository; without a row, a push has none of them."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="repository_policies")
    repository = models.CharField(max_length=500, help_text="Host and path, such as github.com/user/repo.")
    allow_ci_files = models.BooleanField(
        default=False, help_text="Jobs may push changes of files that make a CI server run programs."
    )
    allow_default_branch = models.BooleanField(
        default=False, help_text="Jobs may push to the repository's default branch."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "repository policies"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "repository"], name="one_policy_a_repository")
        ]

    def __str__(self) -> str:
        return f"{self.tenant}/{self.repository}"


class AuditEntry(models.Model):
    """Entry of the audit log; no page or call changes or removes one."""

    at = models.DateTimeField(db_default=Now(), editable=False)
    # Text instead of a key: the log outlives users, and a command on the server has no user.
    actor = models.CharField(max_length=150)
    # ``subject.action``, such as shard.drained.
    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=200, help_text="What was changed, such as shard/local-2.")
    tenant = models.ForeignKey(Tenant, on_delete=models.SET_NULL, null=True, blank=True, related_name="audit_entries")
    # Old and new values, without secrets.
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [models.Index(fields=["subject", "-id"], name="audit_of_a_subject")]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.subject}"
