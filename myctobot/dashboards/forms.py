"""Forms that start and retry jobs. The API validates the request; the forms only present its fields."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django import forms
from django.conf import settings
from django.http import QueryDict

from jobs.lifecycle.job_request import key_of_branch
from jobs.lifecycle.model_access import needs_provider_key
from jobs.lifecycle.retry_policy import MAX_ATTEMPTS, Cause
from jobs.models import Job, Priority, default_retry_on
from jobs.queue.capabilities import AvailableCapability
from myctobot.contract.jobs import TaskType

# Maps each field of the request to the field of the form that shows its errors.
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
    "queue_timeout_s": "queue_timeout_min",
    "no_output_timeout_s": "no_output_timeout_min",
    "not_before": "not_before",
    "retry.max_attempts": "max_attempts",
    "retry.on": "retry_on",
    "concurrency.key": "concurrency_key",
    "concurrency.limit": "concurrency_limit",
    "max_turns": "max_turns",
    "context.additional_instructions": "additional_instructions",
}
# Omit these fields when they are empty, because the API refuses the repository's fields without a repository.
_OPTIONAL_TASK: Final = ("issue_key", "repo_url", "base_branch", "branch")
# Causes of an automatic retry, in words.
CAUSES: Final[Mapping[str, str]] = {
    Cause.INFRASTRUCTURE: "the shard fails",
    Cause.AGENT: "the agent fails",
    Cause.TIMEOUT: "time is up",
}
# Fields in the collapsed section, which users rarely change.
_FOLDED: Final = (
    "priority", "timeout_min", "no_output_timeout_min", "queue_timeout_min", "not_before", "max_turns", "max_attempts",
    "retry_on", "concurrency_key", "concurrency_limit", "additional_instructions",
)  # fmt: skip


def _minutes(seconds: int) -> int | None:
    """Return whole minutes, rounded up; None for 0, which means no limit in the settings."""
    return -(-seconds // 60) or None


class IdempotentForm(forms.Form):
    """Form that starts one job even if the browser sends it several times."""

    idempotency_key = forms.CharField(widget=forms.HiddenInput, max_length=200)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["idempotency_key"].initial = secrets.token_urlsafe(16)

    def renew(self) -> None:
        """Set a new idempotency key and tell the user, because the submitted key belongs to another job."""
        assert isinstance(self.data, QueryDict)  # noqa: S101  # narrows the type: the data came from a page
        data = self.data.copy()
        data["idempotency_key"] = secrets.token_urlsafe(16)
        self.data = data
        self.add_error(
            None, "This form has started a job before, with other values. Send it again to start another job."
        )


class JobForm(IdempotentForm):
    """Request for a job.

    Args:
        offers: the capabilities that the tenant can request.
        secret_names: the names of the stored secrets that the user may choose, by the secret's name in a request.
    """

    retry_of = forms.CharField(required=False, widget=forms.HiddenInput, max_length=64)
    type = forms.ChoiceField(
        choices=[(TaskType.PROMPT.value, "Free text"), (TaskType.IMPLEMENT_TICKET.value, "A ticket")],
        widget=forms.RadioSelect,
        initial=TaskType.PROMPT.value,
        label="What to do",
    )
    issue_key = forms.CharField(required=False, label="Ticket", help_text="For example PROJ-123. Only for a ticket.")
    prompt = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 6}),
        strip=False,
        label="Prompt",
        help_text="The text of the ticket or task. Write as you would to a colleague who has not seen the code.",
    )
    repo_url = forms.CharField(
        required=False,
        label="Repository",
        help_text="https:// or ssh:// without credentials. Empty: the agent works in an empty folder.",
        widget=forms.TextInput(attrs={"placeholder": "https://github.com/user/repo.git", "inputmode": "url"}),
    )
    base_branch = forms.CharField(required=False, label="Start from", help_text="Empty: the default branch.")
    branch = forms.CharField(required=False, label="Push to", help_text="Empty: myctobot/ and the job's id.")
    repo_token = forms.ChoiceField(required=False, label="Repository token")
    capabilities = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple, label="Capabilities")
    anthropic_api_key = forms.ChoiceField(required=False, label="Model provider key")
    priority = forms.ChoiceField(choices=[(p.label, p.label.title()) for p in Priority], initial=Priority.NORMAL.label)
    timeout_min = forms.IntegerField(
        min_value=1,
        max_value=24 * 60,
        initial=lambda: _minutes(settings.RUN_TIMEOUT_S),
        label="Time limit, minutes",
        help_text="For one attempt.",
    )
    max_turns = forms.IntegerField(
        min_value=1, max_value=1000, initial=50, label="Maximum turns", help_text="Turns of the agent."
    )
    no_output_timeout_min = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=24 * 60,
        initial=lambda: _minutes(settings.NO_OUTPUT_TIMEOUT_S),
        label="Maximum silence, minutes",
        help_text="An agent without output for longer is stopped. Empty: no limit.",
    )
    not_before = forms.DateTimeField(
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "data-utc": ""}, format="%Y-%m-%dT%H:%M"),
        label="Not before, UTC",
        help_text="Empty: as soon as a shard is free.",
    )
    queue_timeout_min = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=30 * 24 * 60,
        initial=lambda: _minutes(settings.QUEUE_TIMEOUT_S),
        label="Maximum wait, minutes",
        help_text="The job fails if no shard takes it within this time. Empty: no limit.",
    )
    retry_on = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=list(CAUSES.items()),
        initial=default_retry_on,
        label="Retry automatically when",
    )
    max_attempts = forms.IntegerField(min_value=1, max_value=MAX_ATTEMPTS, initial=2, label="Maximum attempts")
    concurrency_key = forms.CharField(
        required=False,
        label="Concurrency key",
        help_text="Jobs with the same key wait for each other. Empty: jobs that push to the same branch wait.",
    )
    concurrency_limit = forms.IntegerField(
        required=False, min_value=1, max_value=1000, initial=1, label="Maximum jobs with this key"
    )
    additional_instructions = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        label="Further instructions",
        help_text="Additional rules for the agent, such as how to name commits.",
    )

    def __init__(
        self,
        *args: Any,
        offers: Sequence[AvailableCapability],
        secret_names: Mapping[str, Sequence[str]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.offers = offers
        self._set_choices("repo_token", [("", "None"), *((name, name) for name in secret_names["repo_token"])])
        self._offer_provider_keys(secret_names["anthropic_api_key"])
        self._set_choices("capabilities", [(offer.slug, offer.slug) for offer in offers])
        defaults = [offer.slug for offer in offers if offer.slug in ("git", "filesystem")]
        self.fields["capabilities"].initial = defaults

        for name in ("priority", "not_before", "concurrency_key", "concurrency_limit", "repo_url", "branch"):
            # A change of these fields updates the estimate next to the button; see _job_form.html.
            self.fields[name].widget.attrs["class"] = "decides"

    def _offer_provider_keys(self, names: Sequence[str]) -> None:
        self.needs_key = needs_provider_key()
        self.lacks_key = self.needs_key and not names
        empty = "Choose a key" if self.needs_key and names else "None"
        choices = [(name, name) for name in names]
        # A single key that every job needs is no choice.
        self._set_choices(
            "anthropic_api_key", choices if self.needs_key and len(names) == 1 else [("", empty), *choices]
        )
        if not self.needs_key:
            self.fields[
                "anthropic_api_key"
            ].help_text = (
                "Not needed: on this installation, scripts answer instead of a model (GATEWAY_UPSTREAM=scripted)."
            )

    def _set_choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # narrows the type: declared above
        field.choices = choices

    @property
    def is_expanded(self) -> bool:
        """True when a field of the collapsed section has an error or was changed."""
        if not self.is_bound:
            # The form of an edited retry shows the whole request.
            return bool(self.initial)
        return any(name in self.errors or name in self.changed_data for name in _FOLDED)

    @classmethod
    def initial_of(cls, job: Job) -> dict[str, Any]:
        """Return the request of a finished job for the fields, without the secrets that came with it."""
        task, key = job.task, job.concurrency_key
        return {
            **{name: task.get(name, "") for name in ("type", "prompt", *_OPTIONAL_TASK)},
            **{name: job.named_secrets.get(name, "") for name in ("repo_token", "anthropic_api_key")},
            "retry_of": job.public_id,
            "capabilities": job.capabilities,
            "priority": Priority(job.priority).label,
            "timeout_min": _minutes(job.timeout_s),
            "queue_timeout_min": _minutes(job.queue_timeout_s or 0),
            "no_output_timeout_min": _minutes(job.no_output_timeout_s or 0),
            "max_turns": job.max_turns,
            "max_attempts": job.max_attempts,
            "retry_on": job.retry_on,
            "concurrency_key": "" if key == key_of_branch(task) else key,
            "concurrency_limit": job.concurrency_limit,
            "additional_instructions": job.context.get("additional_instructions", ""),
        }

    def request_body(self) -> dict[str, Any]:
        """Return the body of the equivalent API request; call this only when the form is valid."""
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
            "retry": {"max_attempts": data["max_attempts"], "on": data["retry_on"]},
        }
        for name in ("queue_timeout", "no_output_timeout"):
            minutes = data[f"{name}_min"]
            body[f"{name}_s"] = minutes and minutes * 60
        if data["not_before"]:
            body["not_before"] = data["not_before"].isoformat()
        if data["concurrency_key"]:
            body["concurrency"] = {"key": data["concurrency_key"], "limit": data["concurrency_limit"] or 1}
        if data["anthropic_api_key"]:
            body["anthropic_api_key"] = {"secret": data["anthropic_api_key"]}
        if data["additional_instructions"].strip():
            body["context"] = {"additional_instructions": data["additional_instructions"].replace("\r\n", "\n")}
        return body

    def add_request_errors(self, problems: Mapping[str, Sequence[str]]) -> None:
        """Show the API's errors at the fields of the form.

        Args:
            problems: sentences by field of the request.
        """
        for name, sentences in problems.items():
            field = FIELDS.get(name.split("[")[0])
            for sentence in sentences:
                self.add_error(field, sentence if field else f"{name}: {sentence}")


class RetryForm(IdempotentForm):
    """Secrets for a retry, because the secrets of the first request were deleted at its end.

    Args:
        wanted: the names of the job's secrets.
        secret_names: the names of the stored secrets that the user may choose, by the secret's name in a request.
    """

    def __init__(
        self, *args: Any, wanted: Sequence[str], secret_names: Mapping[str, Sequence[str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.wanted = wanted
        # The key is optional, as in the API.
        self.fields["idempotency_key"].required = False
        for name in wanted:
            choices = [("", "Enter it below"), *((stored, stored) for stored in secret_names[name])]
            self.fields[f"{name}_stored"] = forms.ChoiceField(
                choices=choices, required=False, label=f"{LABELS.get(name, name)}, stored secret"
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
                self.add_error(name, "Choose a stored secret or enter the value.")
        return data

    def secret_sources(self) -> dict[str, Any]:
        """Return the secrets of the equivalent API request."""
        data = self.cleaned_data
        return {
            name: {"secret": data[f"{name}_stored"]} if data[f"{name}_stored"] else data[name] for name in self.wanted
        }


LABELS: Final[Mapping[str, str]] = {
    "repo_token": "Repository token",
    "anthropic_api_key": "Model provider key",
    "jira_token": "Jira token",
}
