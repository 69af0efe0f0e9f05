"""Forms that store and bind a tenant's secrets."""

from __future__ import annotations

from typing import Any

from django import forms

from myctobot.tenants.models import USER_ROLES, Role, Secret
from myctobot.tenants.secret_bindings import (
    PURPOSE_LABELS,
    SecretBinding,
    SecretPurpose,
    binding_problems,
    host_list,
)
from myctobot.tenants.secrets import MAX_NAME_LENGTH, value_problem


class BindingForm(forms.Form):
    """Value and binding of a stored secret; the stored value is never shown, and an empty one keeps it."""

    value = forms.CharField(
        required=False,
        strip=False,
        label="New value",
        help_text="Empty: the stored value stays.",
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "off"}),
    )
    purpose = forms.ChoiceField(
        label="Purpose",
        choices=[
            ("", "Choose what it is for"),
            *((purpose.value, text) for purpose, text in PURPOSE_LABELS.items() if purpose != SecretPurpose.UNBOUND),
        ],
    )
    hosts = forms.CharField(
        required=False,
        max_length=6000,
        label="Hosts it may be sent to",
        help_text="Only for repositories. Such as github.com, git.example.com:8443 or *.example.com, separated by "
        "spaces. Without a port: 443 and 22.",
    )
    min_role = forms.ChoiceField(choices=USER_ROLES, label="May be used by")

    def clean_value(self) -> str:
        value: str = self.cleaned_data["value"]
        if value and (problem := value_problem(value.replace("\r\n", "\n"))):
            raise forms.ValidationError(problem)
        return value.replace("\r\n", "\n")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors:
            for field, problem in binding_problems(self.binding).items():
                self.add_error(field, problem)
        return data

    @property
    def binding(self) -> SecretBinding:
        """Return the binding of a form whose fields are valid."""
        data = self.cleaned_data
        return SecretBinding(SecretPurpose(data["purpose"]), host_list(data["hosts"]), data["min_role"])

    @classmethod
    def initial_of(cls, secret: Secret) -> dict[str, str]:
        """Return the present values of a secret for the fields; an unbound secret has no purpose yet."""
        is_unbound = secret.purpose == SecretPurpose.UNBOUND
        purpose, role = ("", Role.MEMBER.value) if is_unbound else (secret.purpose, secret.min_role)
        return {"purpose": purpose, "hosts": " ".join(secret.hosts), "min_role": role}


class NewStoredSecretForm(BindingForm):
    """Name, value and binding of a new stored secret."""

    name = forms.RegexField(
        r"^[A-Za-z0-9_-]+\Z",
        max_length=MAX_NAME_LENGTH,
        help_text="Letters, digits, dashes and underscores. Jobs refer to the secret by this name.",
        error_messages={"invalid": "Use letters, digits, dashes and underscores only."},
    )
    field_order = ("name", "value", "purpose", "hosts", "min_role")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        value = self.fields["value"]
        value.required, value.label, value.help_text = True, "Value", "It is encrypted and never shown again."
