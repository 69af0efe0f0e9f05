"""Serializers that validate the requests of the job API."""

from __future__ import annotations

import ipaddress
import re
import socket
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone
from rest_framework import serializers

from jobs.api.fields import SecretField
from jobs.lifecycle.job_request import JobRequest
from jobs.lifecycle.retry_policy import MAX_ATTEMPTS, RETRYABLE_CAUSES
from jobs.lifecycle.secrets import SecretSource
from jobs.models import Priority, default_retry_on
from myctobot.api.fields import (
    BoundedListField,
    CapabilitiesField,
    StrictCharField,
    StrictDateTimeField,
    StrictIntegerField,
    StrictSerializer,
)
from myctobot.contract.addresses import is_public_address
from myctobot.contract.folders import folder_problem
from myctobot.contract.jobs import TaskType
from myctobot.contract.limits import MAX_PROMPT_BYTES
from myctobot.contract.repositories import (
    branch_pair_problem,
    branch_problem,
    file_path,
    repo_url_problem,
)
from myctobot.contract.work import OnFailure
from myctobot.lib.patterns import NOT_BLANK_PATTERN

MAX_TIMEOUT_S = 24 * 3600
MAX_QUEUE_TIMEOUT_S = 30 * 24 * 3600
MAX_PARKED = timedelta(days=365)
MAX_TURNS = 1000
_REPO_FIELDS = ("repo_token", "branch", "base_branch")
# The key is part of commit subjects, so it must not contain a line break of any kind.
_ISSUE_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.#/-]{0,99}")


def check_host(host: str, allowed: list[str]) -> str | None:
    """Return why a literal address is refused, or None. The code that connects checks the addresses of a name."""
    if host in allowed:
        return None
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return f"names this machine ({host}), which is not allowed"
    address = _literal_address(name)
    if address is None or is_public_address(address):
        return None
    return f"has the private address {host}, which is not allowed"


def _literal_address(host: str) -> str | None:
    """Return the IP address that a host is, in any format that resolvers read, such as 127.1; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


class TaskSerializer(StrictSerializer):
    """Task of the agent, and its repository."""

    rules = {
        "anyOf": [
            {"properties": {"type": {"const": TaskType.PROMPT.value}}},
            {"properties": {"type": {"const": TaskType.IMPLEMENT_TICKET.value}}, "required": ["issue_key", "repo_url"]},
        ],
        "dependentRequired": {name: ["repo_url"] for name in _REPO_FIELDS},
    }

    type = serializers.ChoiceField(choices=[kind.value for kind in TaskType])
    prompt = StrictCharField(
        pattern=NOT_BLANK_PATTERN,
        max_bytes=MAX_PROMPT_BYTES,
        help_text="Description of the task; for a ticket, its text. At most 256 KiB.",
    )
    issue_key = StrictCharField(
        required=False, pattern=_ISSUE_KEY.pattern, help_text="Such as PROJ-123. Required for implement_ticket."
    )
    repo_url = StrictCharField(
        required=False, text_format="repository-url", help_text="https:// or ssh://, without credentials."
    )
    repo_token = SecretField(required=False, help_text="Token (https) or private key (ssh) for the repository.")
    branch = StrictCharField(required=False, text_format="new-git-branch", help_text="The branch to create and push.")
    base_branch = StrictCharField(
        required=False,
        text_format="git-branch",
        help_text="The branch to start from, which differs from `branch`; the default branch of the repository if "
        "absent.",
    )

    def validate_prompt(self, value: str) -> str:
        if not value.strip():
            raise serializers.ValidationError("Has only white space; describe the task.")
        return value

    def validate_issue_key(self, value: str) -> str:
        if not _ISSUE_KEY.fullmatch(value):
            raise serializers.ValidationError(
                "Must have 1 to 100 letters, digits or any of _ . # / -, and start with a letter or digit."
            )
        return value

    def validate_repo_url(self, value: str) -> str:
        problem = repo_url_problem(value, settings.REPO_SCHEMES, settings.REPO_FILE_ROOTS)
        if problem is None and urlsplit(value).scheme == "file":
            problem = folder_problem(file_path(value))
        problem = problem or check_host(urlsplit(value).hostname or "", settings.REPO_PRIVATE_HOSTS)
        if problem:
            raise serializers.ValidationError(f"The URL {problem}.")
        return value

    def validate_branch(self, value: str) -> str:
        if problem := branch_problem(value):
            raise serializers.ValidationError(f"The branch name {problem}.")
        return value

    validate_base_branch = validate_branch

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["type"] == TaskType.IMPLEMENT_TICKET:
            missing = [name for name in ("issue_key", "repo_url") if not attrs.get(name)]
            if missing:
                raise serializers.ValidationError({name: ["implement_ticket needs this field."] for name in missing})
        if not attrs.get("repo_url"):
            stray = [name for name in _REPO_FIELDS if name in attrs]
            if stray:
                raise serializers.ValidationError({name: ["Has no use without repo_url."] for name in stray})
        branch, base = attrs.get("branch"), attrs.get("base_branch")
        if branch and base and (problem := branch_pair_problem(branch, base)):
            raise serializers.ValidationError({"branch": [f"The branch name {problem}."]})
        return attrs


class ContextSerializer(StrictSerializer):
    """Context of the task. The Jira credentials stay in the control plane."""

    jira_cloud_id = StrictCharField(required=False, max_length=100)
    jira_token = SecretField(required=False)
    additional_instructions = StrictCharField(required=False, max_bytes=64 * 1024)


class ConcurrencySerializer(StrictSerializer):
    """Limit on the tenant's jobs with the same key that have a slot at once."""

    key = StrictCharField(max_length=300, help_text="Any text; jobs with the same key count together.")
    limit = StrictIntegerField(min_value=1, max_value=1000, default=1)


class RetryPolicySerializer(StrictSerializer):
    """Failures that another attempt may follow."""

    max_attempts = StrictIntegerField(min_value=1, max_value=MAX_ATTEMPTS, default=2)
    on = BoundedListField(
        child=serializers.ChoiceField(choices=[cause.value for cause in RETRYABLE_CAUSES]),
        default=default_retry_on,
        max_length=len(RETRYABLE_CAUSES),
        help_text="Cause of the failure: infrastructure (the shard), agent or timeout.",
    )

    def validate_on(self, value: list[str]) -> list[str]:
        return sorted(set(value))


# The type stubs allow no default that is None.
def _default_queue_timeout() -> Any:
    return settings.QUEUE_TIMEOUT_S or None


def _default_no_output_timeout() -> Any:
    return settings.NO_OUTPUT_TIMEOUT_S or None


class JobRequestSerializer(StrictSerializer):
    """A request for a job."""

    rules = {
        "anyOf": [
            {"properties": {"on_failure": {"const": OnFailure.KEEP.value}}},
            {"properties": {"task": {"properties": {"repo_url": {"type": "string"}}, "required": ["repo_url"]}}},
        ]
    }

    task = TaskSerializer()
    capabilities = CapabilitiesField(help_text="Capabilities that the shard must have, such as git and filesystem.")
    anthropic_api_key = SecretField(
        required=False,
        help_text="The tenant's provider key; it never leaves the gateway. Required if the gateway calls a provider.",
    )
    priority = serializers.ChoiceField(choices=[p.label for p in Priority], default=Priority.NORMAL.label)
    context = ContextSerializer(required=False)  # type: ignore[assignment]  # DRF's own attribute is set later, on the instance
    callback_url = StrictCharField(
        required=False,
        max_length=2000,
        text_format="callback-url",
        help_text="Receives start and end of the job. https with the port 443 or 8443, and without credentials.",
    )
    timeout_s = StrictIntegerField(
        min_value=10,
        max_value=MAX_TIMEOUT_S,
        default=lambda: settings.RUN_TIMEOUT_S,
        help_text="Seconds that one attempt may run; RUN_TIMEOUT_S if absent.",
    )
    queue_timeout_s = StrictIntegerField(
        min_value=1,
        max_value=MAX_QUEUE_TIMEOUT_S,
        default=_default_queue_timeout,
        allow_null=True,
        help_text="Seconds that the job waits for a shard before it fails; null for no limit.",
    )
    no_output_timeout_s = StrictIntegerField(
        min_value=10,
        max_value=MAX_TIMEOUT_S,
        default=_default_no_output_timeout,
        allow_null=True,
        help_text="Seconds that the agent may produce no output; null for no limit.",
    )
    not_before = StrictDateTimeField(
        required=False, help_text="Earliest time of the start, by RFC 3339; without a zone it is UTC."
    )
    concurrency = ConcurrencySerializer(
        required=False, help_text="If absent, jobs that push to the same branch of a repository run one by one."
    )
    retry = RetryPolicySerializer(required=False)
    on_failure = serializers.ChoiceField(
        choices=[handling.value for handling in OnFailure],
        default=OnFailure.KEEP.value,
        help_text="Work of an attempt that does not end well: keep it for a download or a push, or push it to a branch "
        "of its own too.",
    )
    max_turns = StrictIntegerField(min_value=1, max_value=MAX_TURNS, default=50)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["on_failure"] == OnFailure.PUSH_WIP and not attrs["task"].get("repo_url"):
            raise serializers.ValidationError({"on_failure": ["push_wip has no use without task.repo_url."]})
        return attrs

    def validate_not_before(self, value: datetime) -> datetime:
        if value > timezone.now() + MAX_PARKED:
            raise serializers.ValidationError(f"Must be within {MAX_PARKED.days} days.")
        return value

    def validate_callback_url(self, value: str) -> str:
        # This check comes first, because the parser drops line breaks and the stored text would still have them.
        if not value.isprintable() or " " in value:
            raise serializers.ValidationError("Must not contain white space or control characters.")
        try:
            parts = urlsplit(value)
            port = parts.port or 443
        except ValueError as error:
            raise serializers.ValidationError("Is not a well-formed URL.") from error
        if parts.scheme != "https" or not parts.hostname:
            raise serializers.ValidationError("Must be an https:// URL.")
        if parts.username is not None or parts.password is not None:
            raise serializers.ValidationError("Must not contain a user name or password.")
        if port not in (443, 8443) and parts.hostname not in settings.CALLBACK_PRIVATE_HOSTS:
            raise serializers.ValidationError(f"The URL has port {port}; use 443 or 8443.")
        if problem := check_host(parts.hostname, settings.CALLBACK_PRIVATE_HOSTS):
            raise serializers.ValidationError(f"The URL {problem}.")
        return value

    @classmethod
    def read(cls, data: Any) -> JobRequest:
        """Validate a request, and separate its secrets from the readable fields.

        Raises:
            ValidationError: fields are invalid; the error lists the problems by field.
        """
        return _request_of(_shared_serializer().run_validation(data))


@cache
def _shared_serializer() -> JobRequestSerializer:
    """Return one serializer for all threads: validation keeps no state in it, and making one takes longer."""
    return JobRequestSerializer()


def _request_of(data: dict[str, Any]) -> JobRequest:
    task, context = dict(data["task"]), dict(data.get("context", {}))
    secrets: dict[str, SecretSource] = {}
    for holder, name in ((task, "repo_token"), (context, "jira_token"), (data, "anthropic_api_key")):
        if name in holder:
            secrets[name] = holder[name]
    task.pop("repo_token", None)
    context.pop("jira_token", None)
    return JobRequest(
        task=task,
        capabilities=data["capabilities"],
        priority=next(p.value for p in Priority if p.label == data["priority"]),
        timeout_s=data["timeout_s"],
        max_turns=data["max_turns"],
        context=context,
        callback_url=data.get("callback_url", ""),
        queue_timeout_s=data["queue_timeout_s"],
        no_output_timeout_s=data["no_output_timeout_s"],
        not_before=data.get("not_before"),
        concurrency_key=data.get("concurrency", {}).get("key", ""),
        concurrency_limit=data.get("concurrency", {}).get("limit", 1),
        max_attempts=data.get("retry", {}).get("max_attempts", 2),
        retry_on=data.get("retry", {}).get("on", default_retry_on()),
        on_failure=data["on_failure"],
        secrets=secrets,
    )


class RetrySerializer(StrictSerializer):
    """Secrets for a retry of a job whose secrets came with its request."""

    repo_token = SecretField(required=False)
    anthropic_api_key = SecretField(required=False)
    jira_token = SecretField(required=False)


class PushSerializer(StrictSerializer):
    """Token for a push of kept work, if the job's own token came with its request."""

    repo_token = SecretField(required=False)
