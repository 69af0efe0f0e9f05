"""The form that starts a job. What is right and wrong is the API's decision; here its fields get faces."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django import forms
from django.http import QueryDict

from jobs.contract import TaskType
from jobs.models import Priority
from jobs.offers import Offer

# Which field of the form shows what the API says of a field of the request.
FIELDS: Final[Mapping[str, str]] = {
    "task.type": "type",
    "task.issue_key": "issue_key",
    "task.prompt": "prompt",
    "task.repo_url": "repo_url",
    "task.base_branch": "base_branch",
    "task.branch": "branch",
    "task.repo_token": "repo_token",
    "anthropic_api_key": "anthropic_api_key",
    "capabilities": "capabilities",
    "priority": "priority",
    "timeout_s": "timeout_min",
    "max_turns": "max_turns",
    "context.additional_instructions": "additional_instructions",
}
# The repository's fields mean nothing to the API without a repository; an empty one is no answer.
_OPTIONAL_TASK: Final = ("issue_key", "repo_url", "base_branch", "branch")


class JobForm(forms.Form):
    """A request for a job.

    Args:
        offers: the capabilities that may be asked for.
        secret_names: of the tenant's stored secrets.
    """

    type = forms.ChoiceField(
        choices=[(TaskType.PROMPT.value, "Free text"), (TaskType.IMPLEMENT_TICKET.value, "A ticket")],
        widget=forms.RadioSelect,
        initial=TaskType.PROMPT.value,
        label="What to do",
    )
    issue_key = forms.CharField(required=False, label="Ticket", help_text="Such as PROJ-123. Only for a ticket.")
    prompt = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 6}),
        strip=False,
        label="Prompt",
        help_text="For a ticket: its text. Write it as you would to a colleague who has not seen the code.",
    )
    repo_url = forms.CharField(
        required=False,
        label="Repository",
        help_text="https:// or ssh://, without credentials. Empty: the agent works in an empty folder.",
        widget=forms.TextInput(attrs={"placeholder": "https://github.com/user/repo.git", "inputmode": "url"}),
    )
    base_branch = forms.CharField(required=False, label="Start from", help_text="Empty: the default branch.")
    branch = forms.CharField(required=False, label="Push to", help_text="Empty: myctobot/ and the job's id.")
    repo_token = forms.ChoiceField(required=False, label="Repository's token")
    capabilities = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="What the agent needs"
    )
    anthropic_api_key = forms.ChoiceField(required=False, label="Model provider's key")
    priority = forms.ChoiceField(choices=[(p.label, p.label.title()) for p in Priority], initial=Priority.NORMAL.label)
    timeout_min = forms.IntegerField(min_value=1, max_value=24 * 60, initial=60, label="Time limit, minutes")
    max_turns = forms.IntegerField(min_value=1, max_value=1000, initial=50, label="Turns of the agent at most")
    additional_instructions = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        label="Further instructions",
        help_text="Rules for the agent beside the task, such as how to name commits.",
    )
    # So that a second click starts no second job.
    idempotency_key = forms.CharField(widget=forms.HiddenInput, max_length=200)

    def __init__(self, *args: Any, offers: Sequence[Offer], secret_names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offers = offers
        stored = [("", "None"), *((name, name) for name in secret_names)]
        self._choices("repo_token", stored)
        self._choices("anthropic_api_key", [("", "The operators' own"), *stored[1:]])
        self._choices("capabilities", [(offer.slug, offer.slug) for offer in offers])
        self.fields["idempotency_key"].initial = secrets.token_urlsafe(16)
        usual = [offer.slug for offer in offers if offer.slug in ("git", "filesystem")]
        self.fields["capabilities"].initial = usual

    def _choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # for the type alone: declared above
        field.choices = choices

    def renew(self) -> None:
        """Take a new idempotency key: the one that came belongs to another job by now."""
        assert isinstance(self.data, QueryDict)  # noqa: S101  # for the type alone: it came from a page
        data = self.data.copy()
        data["idempotency_key"] = secrets.token_urlsafe(16)
        self.data = data

    def request_body(self) -> dict[str, Any]:
        """What the API would have been sent; call it when the form is valid."""
        data = self.cleaned_data
        task = {"type": data["type"], "prompt": data["prompt"].replace("\r\n", "\n")}
        task |= {name: data[name] for name in _OPTIONAL_TASK if data[name]}
        if data["repo_token"]:
            task["repo_token"] = {"secret": data["repo_token"]}
        body = {
            "task": task,
            "capabilities": data["capabilities"],
            "priority": data["priority"],
            "timeout_s": data["timeout_min"] * 60,
            "max_turns": data["max_turns"],
        }
        if data["anthropic_api_key"]:
            body["anthropic_api_key"] = {"secret": data["anthropic_api_key"]}
        if data["additional_instructions"].strip():
            body["context"] = {"additional_instructions": data["additional_instructions"].replace("\r\n", "\n")}
        return body

    def refuse(self, problems: Mapping[str, Sequence[str]]) -> None:
        """Show what the API has against the request, each where it belongs.

        Args:
            problems: sentences by the request's field.
        """
        for name, sentences in problems.items():
            field = FIELDS.get(name.split("[")[0])
            for sentence in sentences:
                self.add_error(field, sentence if field else f"{name}: {sentence}")


class RetryForm(forms.Form):
    """Secrets for a retry: those of the first request went with its end.

    Args:
        wanted: names of the secrets that the job had.
        secret_names: of the tenant's stored secrets.
    """

    def __init__(self, *args: Any, wanted: Sequence[str], secret_names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wanted = wanted
        choices = [("", "Type it below"), *((name, name) for name in secret_names)]
        for name in wanted:
            self.fields[f"{name}_stored"] = forms.ChoiceField(
                choices=choices, required=False, label=f"{LABELS.get(name, name)}, stored as"
            )
            self.fields[name] = forms.CharField(
                required=False,
                strip=False,
                label=f"{LABELS.get(name, name)}",
                widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "off"}),
            )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        for name in self.wanted:
            if not data.get(name) and not data.get(f"{name}_stored"):
                self.add_error(name, "Choose a stored secret, or type the value.")
        return data

    def secret_sources(self) -> dict[str, Any]:
        """What the API would have been sent."""
        data = self.cleaned_data
        return {
            name: {"secret": data[f"{name}_stored"]} if data[f"{name}_stored"] else data[name] for name in self.wanted
        }


LABELS: Final[Mapping[str, str]] = {
    "repo_token": "Repository's token",
    "anthropic_api_key": "Model provider's key",
    "jira_token": "Jira's token",
}
