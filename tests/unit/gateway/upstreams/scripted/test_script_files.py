from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.gateway.upstreams.scripted.script_files import ScriptFileError, load_scripts, parse_scripts

STEP = "steps: [{text: Hi.}]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("scripts: [", "p.yaml: is not YAML"),
        ("[]", "p.yaml: must be a mapping with scripts"),
        ("{scripts: [], more: 1}", "p.yaml: more: is unknown here"),
        ("scripts: []", "p.yaml: scripts: must be a list with at least one entry"),
        ("scripts: [{steps: []}]", "scripts[0]: name: must be a non-empty text"),
        ("scripts: [{name: a}]", "script 'a': steps: must be a list"),
        (f"scripts: [{{name: a, {STEP}}}, {{name: a, {STEP}}}]", "script 'a': name: is used twice"),
        (f"scripts: [{{name: a, match: x, {STEP}}}]", "script 'a': match: must be a mapping"),
        (f"scripts: [{{name: a, match: {{promt: x}}, {STEP}}}]", "script 'a': match: promt: is unknown here"),
        (f"scripts: [{{name: a, match: {{prompt: '('}}, {STEP}}}]", "match: prompt: is not a regular expression"),
        (f"scripts: [{{name: a, match: {{tools: Bash}}, {STEP}}}]", "match: tools: must be a list"),
    ],
)
def test_an_invalid_script_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(ScriptFileError) as caught:
        parse_scripts(text, "p.yaml")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("{}", "must have either an error or text, thinking or calls"),
        ("{text: Hi., error: {}}", "must have either an error or text, thinking or calls"),
        ("{txt: Hi.}", "txt: is unknown here"),
        ("{text: 5}", "text: must be a non-empty text"),
        ("{text: Hi., delay_ms: -1}", "delay_ms: must be a whole number from 0 to 600000"),
        ("{text: Hi., chunk: 0}", "chunk: must be a whole number"),
        ("{text: Hi., repeat: true}", "repeat: must be a whole number"),
        ("{text: Hi., stop_reason: bored}", "stop_reason: must be one of"),
        ("{text: Hi., usage: {tokens: 1}}", "usage: tokens: is unknown here"),
        ("{text: Hi., when: {is_error: maybe}}", "when: is_error: must be true or false"),
        ("{calls: [{input: {}}]}", "calls[0]: tool: must be a non-empty text"),
        ("{calls: [{tool: Bash, input: ls}]}", "calls[0]: input: must be a mapping"),
        ("{error: {status: 200}}", "error: status: must be a whole number from 400 to 599"),
        ("{first_of: []}", "first_of: must be a list with at least one entry"),
        ("{first_of: [{text: Hi.}], text: Ho.}", "text: must be in the entries of first_of"),
        ("{text: '{{ missing }}'}", "{{ missing }} is not a named group of the script's patterns (known groups: who)"),
        ("{calls: [{tool: B, input: {a: [{b: '{{ missing }}'}]}}]}", "{{ missing }} is not a named group"),
    ],
)
def test_an_invalid_step_is_refused_by_position(step: str, problem: str) -> None:
    text = f"scripts: [{{name: a, match: {{prompt: '(?P<who>x)'}}, steps: [{{text: Hi.}}, {step}]}}]"
    with pytest.raises(ScriptFileError) as caught:
        parse_scripts(text, "p.yaml")
    assert caught.value.message.startswith("p.yaml: script 'a': steps[1]")
    assert problem in caught.value.message


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.yaml").write_text(f"scripts: [{{name: {name}, {STEP}}}]")
    (tmp_path / "notes.txt").write_text("not a script")
    assert [script.label for script in load_scripts(tmp_path)] == ["a.yaml/a", "b.yaml/b"]


def test_where_no_plays_are_the_setting_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(ScriptFileError, match="GATEWAY_SCRIPTS"):
            load_scripts(path)


@pytest.mark.parametrize("folder", ["myctobot/gateway/upstreams/scripted/examples", "tests/fixtures/scripts"])
def test_the_shipped_plays_are_valid(folder: str) -> None:
    assert load_scripts(Path(__file__).parents[5] / folder)
