"""Prompt, instructions and commit message of an attempt; pure."""

from __future__ import annotations

import re

from myctobot.contract.jobs import TaskType
from myctobot.contract.runner import TaskPayload

# Models read tags loosely, so this finds any case, white space, invisible characters and look-alikes of signs.
_BLANK = r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*"
_DASH = rf"(?:[-_\u2010-\u2015\u2212\uff0d]{_BLANK})?"
_CLOSING_TAG = re.compile(
    rf"[<\uff1c\ufe64]{_BLANK}[/\u2044\u2215\uff0f]{_BLANK}{_BLANK.join('repository')}{_BLANK}{_DASH}{_BLANK.join('notes')}",
    re.IGNORECASE,
)
# Names of files with other characters could end the attribute or the tag.
_NOT_IN_NAMES = re.compile(r"[^\w./, +-]")

_HOUSE_RULES = """You work unattended: no person can answer questions. Your working directory is the workspace.
Make the smallest change that does the task well, and run the project's own tests where there are any.
Do not push and do not change git remotes: your commits are collected when you end, and what you leave uncommitted
is committed for you."""


def build_prompt(task: TaskPayload) -> str:
    """Return the user's message to the agent."""
    if task["type"] == TaskType.IMPLEMENT_TICKET:
        return f"Implement the ticket {task.get('issue_key', '')} in this repository.\n\n{task['prompt']}"
    return task["prompt"]


def build_instructions(task: TaskPayload, notes: str | None, source: str = "CLAUDE.md") -> str:
    """Return the text that is added to the agent's system prompt.

    Args:
        task: may have the tenant's additional instructions.
        notes: the repository's notes on the base branch. They are quoted as information; nothing in them is loaded or
            run.
        source: names of the files that the notes are from; the repository chooses them too.
    """
    parts = [_HOUSE_RULES]
    if extra := task.get("additional_instructions"):
        parts.append(f"Additional instructions:\n{extra}")
    if notes:
        # The repository is not trusted, so a closing tag in its text must not end the quotation.
        quoted = _CLOSING_TAG.sub(r"<\\/repository-notes", notes)
        parts.append(
            "The repository's own notes for agents follow, as information about the project.\n"
            f'<repository-notes source="{_NOT_IN_NAMES.sub("_", source)}">\n{quoted}\n</repository-notes>'
        )
    return "\n\n".join(parts)


def commit_message(task: TaskPayload, job_id: str) -> str:
    """Return the message of the commit that the runner makes from the agent's uncommitted changes."""
    title = task["prompt"].strip().splitlines()[0][:60] if task["prompt"].strip() else "Work of an agent"
    prefix = f"{task['issue_key']}: " if task.get("issue_key") else ""
    return f"{prefix}{title}\n\nMyCTOBot job {job_id}"
