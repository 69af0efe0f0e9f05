from __future__ import annotations

from typing import Any

from myctobot.gateway.upstreams.scripted.conversation import Conversation, read_conversation


def read(*messages: dict[str, Any], **fields: Any) -> Conversation:
    return read_conversation({"model": "m", "messages": list(messages), **fields})


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def result(content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": content, **fields}


ANSWER = {"role": "assistant", "content": "I do."}


def test_the_prompt_is_the_text_of_the_first_user_message() -> None:
    assert read(user(text("one"), text("two")), ANSWER, user(text("three"))).prompt == "one\ntwo"


def test_turns_are_the_answers_so_far() -> None:
    assert read(user(text("hi"))).turns == 0
    assert read(user(text("hi")), ANSWER, user(result("x")), ANSWER, user(result("y"))).turns == 2


def test_an_answer_split_into_messages_is_one_turn() -> None:
    assert read(user(text("hi")), ANSWER, ANSWER, user(result("x"))).turns == 1


def test_messages_of_other_roles_are_no_part_of_the_talk() -> None:
    talk = read(user(text("hi")), ANSWER, user(result("x")), {"role": "system", "content": [text("note")]})
    assert (talk.turns, talk.result, talk.system) == (1, "x", "note")


def test_the_result_is_that_of_the_last_turn_alone() -> None:
    talk = read(
        user(text("hi")), ANSWER, user(result("old")), ANSWER, user(result([text("a"), text("b")]), result("c"))
    )
    assert talk.result == "a\nb\nc"


def test_without_a_tool_result_there_is_none() -> None:
    assert read(user(text("hi"))).result is None
    assert read(user(text("hi")), ANSWER).result is None


def test_one_failed_result_makes_an_error() -> None:
    assert read(user(text("hi")), ANSWER, user(result("x"), result("y", is_error=True))).result_is_error


def test_system_and_tools_are_read() -> None:
    talk = read(user(text("hi")), system=[text("You are"), text("helpful")], tools=[{"name": "Bash"}, "odd"])
    assert (talk.system, talk.tools) == ("You are\nhelpful", frozenset({"Bash"}))


def test_odd_shapes_are_no_crash() -> None:
    talk = read({"role": "system", "content": "x"}, user({"type": "image"}, {"type": "tool_result"}), tools=5, system=7)
    assert (talk.prompt, talk.result, talk.tools) == ("", "", frozenset())
