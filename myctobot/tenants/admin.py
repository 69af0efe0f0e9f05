"""Admin pages of tenants. No page shows a stored key or secret."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest

from myctobot.admin_site.widgets import Inline, Page, PasswordInput, ReadOnly, TextInput, label
from myctobot.errors import InvalidRequest
from myctobot.lib.crypto import digest, new_token
from myctobot.tenants import user_admin
from myctobot.tenants.audited_admin import AuditedModelAdmin, in_words
from myctobot.tenants.models import ApiKey, AuditEntry, Member, RepositoryPolicy, Secret, Tenant
from myctobot.tenants.repository_policies import parse_repository
from myctobot.tenants.secret_bindings import SecretBinding, SecretPurpose, binding_problems, host_list
from myctobot.tenants.secrets import seal_value, value_problem

__all__ = ["user_admin"]

# Number of hosts in a row of the list of secrets; the form shows all of them.
_MAX_SHOWN_HOSTS = 2

# ``settings.admin_theme`` holds the name and the menu of the panel.
admin.site.index_title = "Overview"


class MemberInline(Inline[Member, Tenant]):
    model = Member
    extra = 0


@admin.register(Tenant)
class TenantAdmin(AuditedModelAdmin[Tenant]):
    list_display = ["slug", "name", "is_active", "weight", "max_running_jobs", "max_waiting_jobs", "created_at"]
    search_fields = ["slug", "name"]
    inlines = [MemberInline]
    fieldsets = [
        (None, {"fields": ["slug", "name", "is_active"]}),
        (
            "Share and limits",
            {
                "fields": ["weight", "max_running_jobs", "max_waiting_jobs"],
                "description": "Changes apply from the next dispatch round. Running jobs continue, and waiting "
                "jobs stay in the queue.",
            },
        ),
    ]


@admin.register(ApiKey)
class ApiKeyAdmin(AuditedModelAdmin[ApiKey]):
    list_display = [
        "name",
        "tenant",
        "prefix",
        "current_role",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    ]
    list_filter = ["tenant", "role"]
    search_fields = ["name", "prefix"]
    readonly_fields = ["prefix", "created_by", "created_at", "last_used_at"]

    # The label of a role explains it in a form and is too long for a column.
    @admin.display(description="role", ordering="role")
    def current_role(self, key: ApiKey) -> str:
        return key.role

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if not change:
            key = new_token("mctb")
            obj.prefix, obj.key_hash = key[:12], digest(key)
            obj.created_by_id = request.user.pk
            messages.warning(request, f"The key, which is shown only once: {key}")
        super().save_model(request, obj, form, change)


class SecretForm(forms.ModelForm[Secret]):
    """Form for a value and its binding; it never shows the stored value, and an empty one keeps it."""

    value = forms.CharField(
        widget=PasswordInput(render_value=False),
        required=False,
        strip=False,
        help_text="Empty: the stored value stays.",
    )
    hosts = forms.CharField(required=False, widget=TextInput(), help_text=Secret._meta.get_field("hosts").help_text)

    class Meta:
        model = Secret
        fields = ["tenant", "name", "purpose", "hosts", "min_role"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["hosts"] = " ".join(self.instance.hosts)

    def clean_hosts(self) -> list[str]:
        return list(host_list(self.cleaned_data["hosts"]))

    def clean_value(self) -> str:
        value: str = self.cleaned_data["value"]
        if not value and self.instance.pk:
            return value
        if problem := value_problem(value):
            raise forms.ValidationError(problem)
        return value

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if {"purpose", "hosts", "min_role"} <= set(data):
            binding = SecretBinding(SecretPurpose(data["purpose"]), tuple(data["hosts"]), data["min_role"])
            for field, problem in binding_problems(binding).items():
                self.add_error(field, problem)
        return data


@admin.register(Secret)
class SecretAdmin(AuditedModelAdmin[Secret]):
    form = SecretForm
    fieldsets = [
        (None, {"fields": ["tenant", "name", "value"]}),
        (
            "Binding",
            {
                "fields": ["purpose", "hosts", "min_role"],
                "description": "Jobs may use the secret for this purpose, these hosts and these roles only. An unbound "
                "secret is for admins only: bind it before others use it.",
            },
        ),
    ]
    list_display = ["name", "tenant", "binding_label", "host_text", "min_role", "updated_at"]
    list_filter = ["purpose", "tenant"]
    search_fields = ["name"]

    @admin.display(description="purpose", ordering="purpose")
    def binding_label(self, secret: Secret) -> str:
        is_unbound = secret.purpose == SecretPurpose.UNBOUND
        return label(secret.purpose, "warning" if is_unbound else "", "Only admins may use it." if is_unbound else "")

    @admin.display(description="hosts", empty_value="-")
    def host_text(self, secret: Secret) -> str | None:
        shown = ", ".join(secret.hosts[:_MAX_SHOWN_HOSTS])
        more = len(secret.hosts) - _MAX_SHOWN_HOSTS
        return (f"{shown} and {more} more" if more > 0 else shown) or None

    def get_readonly_fields(self, request: HttpRequest, obj: Secret | None = None) -> list[str]:
        # The sealed value is bound to tenant and name.
        return ["tenant", "name"] if obj else []

    def save_model(self, request: HttpRequest, obj: Secret, form: Any, change: bool) -> None:
        if value := form.cleaned_data["value"]:
            seal_value(obj, value)
        super().save_model(request, obj, form, change)


class RepositoryPolicyForm(forms.ModelForm[RepositoryPolicy]):
    """Form that accepts a repository's URL too."""

    class Meta:
        model = RepositoryPolicy
        fields = ["tenant", "repository", "allow_ci_files", "allow_default_branch"]

    def clean_repository(self) -> str:
        try:
            return parse_repository(self.cleaned_data["repository"])
        except InvalidRequest as error:
            raise forms.ValidationError(error.fields["repository"]) from error


@admin.register(RepositoryPolicy)
class RepositoryPolicyAdmin(AuditedModelAdmin[RepositoryPolicy]):
    form = RepositoryPolicyForm
    list_display = ["repository", "tenant", "allow_ci_files", "allow_default_branch", "updated_at"]
    list_filter = ["tenant", "allow_ci_files", "allow_default_branch"]
    search_fields = ["repository"]

    def get_readonly_fields(self, request: HttpRequest, obj: RepositoryPolicy | None = None) -> list[str]:
        return ["tenant", "repository"] if obj else []


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, Page[AuditEntry]):
    """Read-only list of the audit log."""

    list_fullwidth = True
    list_display = ["at", "actor", "action", "subject", "changes"]
    list_display_links = ["at"]
    list_filter = ["at", "tenant"]
    search_fields = ["actor", "action", "subject"]
    list_select_related = ["tenant"]
    ordering = ["-id"]
    list_per_page = 50
    fields = ["at", "actor", "action", "subject", "tenant", "changes_in_full"]
    readonly_fields = ["changes_in_full"]

    @admin.display(description="changes", empty_value="-")
    def changes(self, entry: AuditEntry) -> str | None:
        text = in_words(entry.details)
        return text if len(text) <= 200 else f"{text[:200]}…"

    @admin.display(description="changes", empty_value="-")
    def changes_in_full(self, entry: AuditEntry) -> str | None:
        return in_words(entry.details) or None
