"""Forms of the shards' pages: a shard itself, and what has to be said before something is done to it."""

from __future__ import annotations

from typing import Any

from django import forms

from myctobot.admin_site.widgets import Checkbox, Select, TextInput
from myctobot.errors import InvalidRequest
from shards.admin.pools import look_right, provider_choices
from shards.inventory import service as managing
from shards.models.shard import Shard


class ShardForm(forms.ModelForm[Shard]):
    """A shard, checked by the same service that the API uses."""

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
                choices=provider_choices("Nobody: a machine that is set up by hand"),
                required=False,
                widget=Select,
                help_text="Who makes its container.",
            )
        look_right(self.fields)
        for name, text in _HELP.items():
            if name in self.fields:
                self.fields[name].help_text = text

    def clean_mcp_servers(self) -> Any:
        return self.cleaned_data["mcp_servers"] or {}

    def clean_resource_spec(self) -> Any:
        return self.cleaned_data["resource_spec"] or {}

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's, though its stubs do not tell
        if self.errors:
            return
        try:
            managing.check(self.instance)
        except InvalidRequest as error:
            for name, problems in error.fields.items():
                self.add_error(name if name in self.fields else None, problems)


_HELP = {
    "name": "A lower-case slug. Its queue and its host name go by it, so it stays.",
    "capabilities": "Lower-case slugs with commas between: filesystem,git",
    "max_concurrent_jobs": "Slots: jobs that it runs at once.",
    "is_active": "Off: it gets no new jobs. To take it out for a while, drain it: that says who and why.",
}


class NothingForm(forms.Form):
    """Nothing to say: a click is enough."""


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        max_length=300,
        widget=TextInput(attrs={"autofocus": True}),
        help_text="Whoever asks why jobs wait is told.",
    )


class ForceForm(forms.Form):
    """Whether running jobs may end."""

    force = forms.BooleanField(
        required=False,
        label="Jobs that run there may end",
        widget=Checkbox,
        help_text="Without this it is refused while the shard runs a job. Drain it first, so that none is lost.",
    )


class SnapshotForm(ForceForm):
    """What to call a snapshot."""

    label = forms.CharField(
        max_length=40,
        widget=TextInput(attrs={"autofocus": True, "placeholder": "before-upgrade"}),
        help_text="A lower-case slug. A snapshot of the same name is replaced.",
    )
    field_order = ["label", "force"]


class RestoreForm(ForceForm):
    """Which snapshot to go back to."""

    label = forms.ChoiceField(label="Snapshot", widget=Select, help_text="“clean”: before it ever ran.")
    field_order = ["label", "force"]

    def __init__(self, *args: Any, labels: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["label"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # declared above
        field.choices = [(label, label) for label in labels]


class DestroyForm(ForceForm):
    """The shard's name, so that nobody destroys the wrong one."""

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
