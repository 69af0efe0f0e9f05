"""Forms of the shards' pages: a shard and the input of its actions."""

from __future__ import annotations

from typing import Any

from django import forms

from myctobot.admin_site.widgets import Checkbox, Select, TextInput
from myctobot.errors import InvalidRequest
from shards.admin.pools import provider_choices, style_fields
from shards.inventory import service
from shards.models import Shard


class ShardForm(forms.ModelForm[Shard]):
    """Form of a shard, checked by the service that the API uses too."""

    class Meta:
        model = Shard
        fields = [
            "name", "description", "template", "shard_type", "pool", "provider", "capabilities", "max_concurrent_jobs",
            "is_active", "mcp_servers", "resource_spec",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "provider" in self.fields:
            self.fields["provider"] = forms.ChoiceField(
                choices=provider_choices("None: a machine without a provider"),
                required=False,
                widget=Select,
                help_text="Creates and removes the container.",
            )
        style_fields(self.fields)
        for name, text in _HELP.items():
            if name in self.fields:
                self.fields[name].help_text = text

    def clean_mcp_servers(self) -> Any:
        return self.cleaned_data["mcp_servers"] or {}

    def clean_resource_spec(self) -> Any:
        return self.cleaned_data["resource_spec"] or {}

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django has it, but its stubs do not
        if self.errors:
            return
        try:
            service.check(self.instance)
        except InvalidRequest as error:
            for name, problems in error.fields.items():
                self.add_error(name if name in self.fields else None, problems)


_HELP = {
    "name": "A lower-case slug. It names the queue and the host, so it cannot be changed.",
    "capabilities": "Lower-case slugs, separated by commas: filesystem,git",
    "max_concurrent_jobs": "Number of jobs that the shard runs at the same time.",
    "is_active": "Off: the shard gets no new jobs. Prefer a drain, which records who did it and why.",
}


class NoInputForm(forms.Form):
    """Form without fields, which only confirms."""


class ReasonForm(forms.Form):
    """Form that asks for a reason."""

    reason = forms.CharField(
        max_length=300,
        widget=TextInput(attrs={"autofocus": True}),
        help_text="Shown to members whose jobs wait.",
    )


class ForceForm(forms.Form):
    """Form that asks whether running jobs may end."""

    force = forms.BooleanField(
        required=False,
        label="Running jobs may end",
        widget=Checkbox,
        help_text="Otherwise the action is refused while the shard runs a job. Drain the shard first to lose no job.",
    )


class SnapshotForm(ForceForm):
    """Form that asks for the name of a snapshot."""

    label = forms.CharField(
        max_length=40,
        widget=TextInput(attrs={"autofocus": True, "placeholder": "before-upgrade"}),
        help_text="A lower-case slug. An existing snapshot of this name is replaced.",
    )
    field_order = ["label", "force"]


class RestoreForm(ForceForm):
    """Form that asks for the snapshot to restore."""

    label = forms.ChoiceField(label="Snapshot", widget=Select, help_text="“clean” is the first state of the container.")
    field_order = ["label", "force"]

    def __init__(self, *args: Any, labels: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["label"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # declared above
        field.choices = [(label, label) for label in labels]


class DestroyForm(ForceForm):
    """Form that asks for the shard's name as a confirmation."""

    name = forms.CharField(label="The shard's name", widget=TextInput(attrs={"autofocus": True, "autocomplete": "off"}))
    field_order = ["name", "force"]

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expected = expected
        self.fields["name"].help_text = f"Type “{expected}”."

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if name != self._expected:
            raise forms.ValidationError(f"That is not the shard's name, which is “{self._expected}”.")
        return name
