from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from myctobot.gateway.errors import BadRequest, ScriptedError
from myctobot.gateway.upstreams.scripted.conversation import Conversation
from myctobot.gateway.upstreams.scripted.script_files import parse_scripts
from myctobot.gateway.upstreams.scripted.scripts import choose, compose, fill

SCRIPTS = parse_scripts(
    r"""
scripts:
  - name: shell
    match: {prompt: 'RUN: (?P<command>.+)', tools: [Bash]}
    steps:
      - text: Running {{ command }}.
        calls: [{tool: Bash, input: {command: '{{ command }}', list: ['{{command}}', 5], plain: '{{ other-thing }}'}}]
      - first_of:
          - when: {is_error: true}
            text: It failed.
          - when: {result: 'count=(?P<count>\d+)', not_result: skip}
            text: There are {{ count }}.
          - text: No idea.
      - repeat: 2
        text: Again.
      - error: {status: 529, message: 'Too much of {{ command }}', retry_after_s: 2}
  - name: anything
    match: {model: haiku}
    steps: [{text: Hi.}]
  - name: tools-only
    match: {system: special}
    steps: [{calls: [{tool: Missing}]}]
""",
    "unit.yaml",
)
TALK = Conversation(prompt="RUN: ls", model="opus", tools=frozenset({"Bash"}))


def answer(talk: Conversation) -> dict[str, Any]:
    return compose(choose(SCRIPTS, talk), talk, input_tokens=10)


def spoken(talk: Conversation) -> str:
    return str(answer(talk)["content"][0]["text"])


def test_captures_are_filled_into_text_and_inputs() -> None:
    said, call = answer(TALK)["content"]
    assert said["text"] == "Running ls."
    assert call["name"] == "Bash"
    assert call["input"] == {"command": "ls", "list": ["ls", 5], "plain": "{{ other-thing }}"}


def test_what_was_filled_in_is_not_filled_again() -> None:
    assert fill("{{ a }} {{b}}", {"a": "{{ b }}", "b": "x"}) == "{{ b }} x"


@pytest.mark.parametrize(
    ("result", "is_error", "text"),
    [
        ("count=3", False, "There are 3."),
        ("count=3", True, "It failed."),
        ("count=3 skip", False, "No idea."),
        (None, False, "No idea."),
    ],
)
def test_the_last_result_chooses_among_alternatives(result: str | None, is_error: bool, text: str) -> None:
    assert spoken(replace(TALK, turns=1, result=result, result_is_error=is_error)) == text


def test_a_repeated_step_is_played_so_many_times() -> None:
    assert [spoken(replace(TALK, turns=turn)) for turn in (2, 3)] == ["Again.", "Again."]
    with pytest.raises(ScriptedError) as caught:
        answer(replace(TALK, turns=4))
    assert (caught.value.status, caught.value.kind, caught.value.message) == (529, "overloaded_error", "Too much of ls")
    assert caught.value.headers == {"retry-after": "2"}


def test_the_same_conversation_gets_the_same_answer() -> None:
    assert answer(TALK) == answer(TALK)


def test_ids_differ_between_turns_and_between_calls() -> None:
    later = replace(TALK, turns=2)
    assert answer(TALK)["id"] != answer(later)["id"]
    assert answer(TALK)["content"][1]["id"].startswith("toolu_")


def test_the_stop_reason_follows_from_the_calls() -> None:
    assert answer(TALK)["stop_reason"] == "tool_use"
    assert answer(replace(TALK, turns=2))["stop_reason"] == "end_turn"


def test_the_first_play_that_fits_is_played() -> None:
    assert spoken(replace(TALK, model="haiku")) == "Running ls."
    assert spoken(Conversation(prompt="hello", model="claude-haiku")) == "Hi."


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (replace(TALK, tools=frozenset()), "unit.yaml/shell needs the tools Bash"),
        (Conversation(prompt="hello"), "unit.yaml/shell needs a prompt that matches 'RUN: "),
        (Conversation(prompt="hello"), "unit.yaml/anything needs a model that matches 'haiku'"),
        (replace(TALK, turns=5), "has 5 steps; this conversation asks for step 6"),
        (Conversation(prompt="hello", system="special"), "calls Missing in turn 1; this conversation offers no tools"),
    ],
)
def test_what_is_missing_is_named(talk: Conversation, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        answer(talk)
    assert said in caught.value.message


def test_a_lone_surrogate_in_the_prompt_is_no_crash() -> None:
    assert spoken(replace(TALK, prompt="RUN: \ud800")) == "Running \ud800."
