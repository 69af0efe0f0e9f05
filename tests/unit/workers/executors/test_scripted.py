from __future__ import annotations

import pytest

from workers.errors import JobError
from workers.executors.scripted import ExecutorStep, parse, shell

SCRIPT = """\
- say: hello
- write: {path: a.txt, text: "one"}
- run: cat a.txt
- sleep: 0.5
- fail: enough
"""
STEPS = [
    ExecutorStep("say", "hello"),
    ExecutorStep("write", "one", "a.txt"),
    ExecutorStep("run", "cat a.txt"),
    ExecutorStep("sleep", seconds=0.5),
    ExecutorStep("fail", "enough"),
]


@pytest.mark.parametrize("prompt", [SCRIPT, f"Please play this:\n\n```yaml\n{SCRIPT}```\nThank you.\n"])
def test_steps_are_found_in_the_prompt(prompt: str) -> None:
    assert parse(prompt) == STEPS


def test_json_is_accepted_too() -> None:
    assert parse('[{"run": "true"}]') == [ExecutorStep("run", "true")]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Fix the bug", "must be a list"),
        ("[]", "must be a list"),
        ("- say: [", "not YAML"),
        ("- dance: now", "step 1 must have exactly one of"),
        ("- say: a\n  run: b", "step 1 must have exactly one of"),
        ("- say: ok\n- run: 5", "step 2: run must be a text"),
        ("- write: {path: a}", "step 1: write must have a path and a text"),
        ("- sleep: -1", "step 1: sleep must be a number"),
        ("- sleep: true", "step 1: sleep must be a number"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_anything_else_is_refused_with_the_reason(prompt: str, words: str) -> None:
    with pytest.raises(JobError, match=words) as caught:
        parse(prompt)
    assert caught.value.code == "script_invalid"


def test_a_path_cannot_break_out_of_the_shell() -> None:
    assert "'$(reboot).txt'" in shell(ExecutorStep("write", "x", "$(reboot).txt"), "marker")
