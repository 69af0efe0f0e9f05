"""Validated request for a job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.conf import settings

from jobs.lifecycle.secrets import SecretSource
from jobs.models import Job, default_retry_on
from myctobot.contract.repositories import repository_key
from myctobot.contract.work import OnFailure
from myctobot.lib.crypto import keyed_digest

# Of the column.
MAX_KEY_LENGTH: Final = 300
# Fields that later releases added, with the values that change no digest.
_LATER: Final[dict[str, Any]] = {"work": None, "on_failure": OnFailure.KEEP.value}


@dataclass(frozen=True)
class JobRequest:
    """Validated request for a job.

    Attributes:
        task: the task without its secrets; ``TaskSerializer`` in ``jobs.api.request_serializers`` defines its keys.
        capabilities: sorted slugs.
        priority: a value of ``Priority``.
        timeout_s: seconds of wall clock that one attempt may run.
        max_turns: number of turns that the agent may take.
        context: surroundings of the task, without secrets; ``ContextSerializer`` defines its keys.
        callback_url: https URL that receives start and end; empty for none.
        queue_timeout_s: seconds that the job may wait for a shard; None for no bound.
        no_output_timeout_s: seconds that the agent may be silent; None for no bound.
        not_before: earliest time of the start; None for now.
        concurrency_key: at most ``concurrency_limit`` jobs of the tenant with this key have a slot; empty for none.
        concurrency_limit: number of those jobs.
        max_attempts: number of attempts that may run; see ``jobs.lifecycle.retry_policy``.
        retry_on: causes of failures that another attempt may follow.
        secrets: by name; ``SecretSource`` says what each is.
        on_failure: an ``OnFailure``.
        work: key of the kept work to push instead of running the agent; None for a job that runs it.
    """

    task: dict[str, Any]
    capabilities: list[str]
    priority: int
    timeout_s: int
    max_turns: int
    context: dict[str, Any] = field(default_factory=dict)
    callback_url: str = ""
    queue_timeout_s: int | None = None
    no_output_timeout_s: int | None = None
    not_before: datetime | None = None
    concurrency_key: str = ""
    concurrency_limit: int = 1
    max_attempts: int = 2
    retry_on: list[str] = field(default_factory=default_retry_on)
    secrets: dict[str, SecretSource] = field(default_factory=dict, repr=False)
    on_failure: str = OnFailure.KEEP.value
    work: int | None = None

    def readable_texts(self) -> dict[str, str]:
        """Return the texts that are stored unsealed and shown to the tenant, by field."""
        texts = {f"task.{name}": value for name, value in self.task.items()}
        texts |= {f"context.{name}": value for name, value in self.context.items()}
        texts |= {"callback_url": self.callback_url, "capabilities": " ".join(self.capabilities)}
        texts |= {"concurrency.key": self.concurrency_key}
        return {name: value for name, value in texts.items() if isinstance(value, str)}

    def digest(self, retry_of: Job | None = None) -> str:
        """Return a keyed digest that is equal for equal requests that retry the same job; it reveals no content."""
        content = self.__dict__ if retry_of is None else {**self.__dict__, "retry_of": retry_of.public_id}
        # Digests that an earlier release stored have no such entries.
        content = {name: value for name, value in content.items() if name not in _LATER or value != _LATER[name]}
        return keyed_digest(settings.SECRET_KEY, json.dumps(content, sort_keys=True, default=str))


def key_of_branch(task: dict[str, Any]) -> str:
    """Return a concurrency key for the branch that a task pushes to, because two jobs on one branch conflict."""
    if not task.get("repo_url") or not task.get("branch"):
        return ""
    key = f"{repository_key(task['repo_url'])} {task['branch']}"
    if len(key) <= MAX_KEY_LENGTH:
        return key
    # The end has the branch, so a part of the text would be the key of several branches.
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
