from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.gateway.upstreams.scripted.script_files import PlayFileError, load_plays, parse_plays

STEP = "steps: [{text: Hi.}]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("plays: [", "p.yaml: is not YAML"),
        ("[]", "p.yaml: must be a mapping with plays"),
        ("{plays: [], more: 1}", "p.yaml: more: is not known here"),
        ("plays: []", "p.yaml: plays: must be a list with at least one entry"),
        ("plays: [{steps: []}]", "plays[0]: name: must be a text"),
        ("plays: [{name: a}]", "play 'a': steps: must be a list"),
        (f"plays: [{{name: a, {STEP}}}, {{name: a, {STEP}}}]", "play 'a': name: is used twice"),
        (f"plays: [{{name: a, match: x, {STEP}}}]", "play 'a': match: must be a mapping"),
        (f"plays: [{{name: a, match: {{promt: x}}, {STEP}}}]", "play 'a': match: promt: is not known here"),
        (f"plays: [{{name: a, match: {{prompt: '('}}, {STEP}}}]", "match: prompt: is not a regular expression"),
        (f"plays: [{{name: a, match: {{tools: Bash}}, {STEP}}}]", "match: tools: must be a list"),
    ],
)
def test_a_wrong_play_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(PlayFileError) as caught:
        parse_plays(text, "p.yaml")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("{}", "must have text, thinking or calls; or else an error"),
        ("{text: Hi., error: {}}", "must have text, thinking or calls; or else an error"),
        ("{txt: Hi.}", "txt: is not known here"),
        ("{text: 5}", "text: must be a text"),
        ("{text: Hi., delay_ms: -1}", "delay_ms: must be a whole number from 0 to 600000"),
        ("{text: Hi., chunk: 0}", "chunk: must be a whole number"),
        ("{text: Hi., repeat: true}", "repeat: must be a whole number"),
        ("{text: Hi., stop_reason: bored}", "stop_reason: must be one of"),
        ("{text: Hi., usage: {tokens: 1}}", "usage: tokens: is not known here"),
        ("{text: Hi., when: {is_error: maybe}}", "when: is_error: must be true or false"),
        ("{calls: [{input: {}}]}", "calls[0]: tool: must be a text"),
        ("{calls: [{tool: Bash, input: ls}]}", "calls[0]: input: must be a mapping"),
        ("{error: {status: 200}}", "error: status: must be a whole number from 400 to 599"),
        ("{first_of: []}", "first_of: must be a list with at least one entry"),
        ("{first_of: [{text: Hi.}], text: Ho.}", "text: belongs into the entries of first_of"),
        ("{text: '{{ nobody }}'}", "{{ nobody }} is no named group of the play's patterns (there are: who)"),
        ("{calls: [{tool: B, input: {a: [{b: '{{ nobody }}'}]}}]}", "{{ nobody }} is no named group"),
    ],
)
def test_a_wrong_step_is_refused_by_place(step: str, problem: str) -> None:
    text = f"plays: [{{name: a, match: {{prompt: '(?P<who>x)'}}, steps: [{{text: Hi.}}, {step}]}}]"
    with pytest.raises(PlayFileError) as caught:
        parse_plays(text, "p.yaml")
    assert caught.value.message.startswith("p.yaml: play 'a': steps[1]")
    assert problem in caught.value.message


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.yaml").write_text(f"plays: [{{name: {name}, {STEP}}}]")
    (tmp_path / "notes.txt").write_text("not a play")
    assert [play.label for play in load_plays(tmp_path)] == ["a.yaml/a", "b.yaml/b"]


def test_where_no_plays_are_the_setting_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(PlayFileError, match="GATEWAY_PLAYS"):
            load_plays(path)


@pytest.mark.parametrize("folder", ["myctobot/gateway/plays", "tests/fixtures/plays"])
def test_the_shipped_plays_are_valid(folder: str) -> None:
    assert load_plays(Path(__file__).parents[3] / folder)
