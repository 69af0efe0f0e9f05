"""Jobs as lists show them: long texts are cut in the database, so that a page does not read megabytes of prompts."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import F, Func, IntegerField, JSONField, QuerySet, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Left

from jobs.models import Job

# Bytes of each text in a list.
MAX_TEXT_BYTES: Final = 1024
# Columns whose values may be large, and which a row of a list does not show.
_LARGE: Final = ("task", "context", "encrypted_secrets")


def with_short_texts(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Return the jobs without their long texts. ``short_task`` and ``short_context`` return what is left of them."""
    parent = ("task", "context", "result", "encrypted_secrets")
    return jobs.defer(*_LARGE, *(f"retry_of__{name}" for name in parent)).annotate(
        short_task=_without("task", "prompt"),
        prompt_start=Left(KT("task__prompt"), MAX_TEXT_BYTES),
        prompt_bytes=_bytes_of(KT("task__prompt")),
        short_context=_without("context", "additional_instructions"),
        instructions_start=Left(KT("context__additional_instructions"), MAX_TEXT_BYTES),
        instructions_bytes=_bytes_of(KT("context__additional_instructions")),
    )


def short_task(job: Any) -> dict[str, Any]:
    """Return the task of a job of ``with_short_texts``, with the start of its prompt and the prompt's size."""
    return _shortened(job.short_task, "prompt", job.prompt_start, job.prompt_bytes)


def short_context(job: Any) -> dict[str, Any]:
    """Return the context of a job of ``with_short_texts``, with the start of the instructions and their size."""
    return _shortened(job.short_context, "additional_instructions", job.instructions_start, job.instructions_bytes)


def _shortened(rest: dict[str, Any], name: str, start: str | None, size: int | None) -> dict[str, Any]:
    if start is None:
        return dict(rest)
    # The database cuts after characters. The last one may be half of its bytes after this cut.
    text = start.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
    return {**rest, name: text, f"{name}_bytes": size}


def _without(column: str, key: str) -> Func:
    return Func(
        F(column),
        Cast(Value(key), TextField()),
        template="(%(expressions)s)",
        arg_joiner=" - ",
        output_field=JSONField(),
    )


def _bytes_of(text: Combinable) -> Func:
    return Func(text, function="OCTET_LENGTH", output_field=IntegerField())
