"""Reader of scripts in YAML files. Its errors name the file, the script and the key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from myctobot.errors import MyctobotError
from myctobot.gateway.errors import TYPES_BY_STATUS
from myctobot.gateway.upstreams.scripted.scripts import (
    PLACEHOLDER,
    Match,
    Script,
    ScriptStep,
    StepError,
    ToolCall,
    When,
)

MAX_DELAY_MS = 600_000
MAX_REPEAT = 10_000
STOP_REASONS = ("end_turn", "tool_use", "max_tokens", "stop_sequence", "pause_turn", "refusal")
_CONTENT_KEYS = ("text", "thinking", "calls")
_STEP_KEYS = (*_CONTENT_KEYS, "error", "when", "stop_reason", "usage", "delay_ms", "chunk", "chunk_delay_ms", "repeat")


class ScriptFileError(MyctobotError):
    """A script file is not valid."""

    code = "invalid_script"


def load_scripts(path: Path) -> tuple[Script, ...]:
    """Read a file, or every ``*.yaml`` file of a folder in the order of their names.

    Raises:
        ScriptFileError: there is no script file, or one is not valid.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise ScriptFileError(f"{path}: contains no *.yaml file; set GATEWAY_SCRIPTS to a file or folder of scripts")
    scripts: list[Script] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScriptFileError(f"{file}: cannot be read ({error}); set GATEWAY_SCRIPTS to another file") from error
        scripts += parse_scripts(text, str(file))
    return tuple(scripts)


def parse_scripts(text: str, source: str) -> list[Script]:
    """Parse the scripts in a file's text.

    Raises:
        ScriptFileError: a script is not valid; the message starts with ``source`` and the script's name.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScriptFileError(f"{source}: is not YAML: {error}") from error
    top = _Node(document, source).mapping("scripts")
    scripts = [_script(node, Path(source).name) for node in top.child("scripts").items(at_least=1)]
    names = [script.name for script in scripts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ScriptFileError(f"{source}: script '{twice[0]}': name: is used twice")
    return scripts


@dataclass(frozen=True)
class _Node:
    """Value in the file and its location."""

    value: Any
    where: str

    def fail(self, problem: str) -> ScriptFileError:
        return ScriptFileError(f"{self.where}: {problem}")

    def mapping(self, *keys: str) -> _Node:
        if not isinstance(self.value, dict):
            raise self.fail(f"must be a mapping with {', '.join(keys)}")
        for key in self.value:
            if key not in keys:
                raise self.fail(f"{key}: is unknown here; the known keys are {', '.join(keys)}")
        return self

    def has(self, key: str) -> bool:
        return key in self.value

    def child(self, key: str) -> _Node:
        return _Node(self.value.get(key), f"{self.where}: {key}")

    def items(self, at_least: int = 0) -> Iterator[_Node]:
        if not isinstance(self.value, list) or len(self.value) < at_least:
            raise self.fail("must be a list" + (" with at least one entry" if at_least else ""))
        return (_Node(item, f"{self.where}[{index}]") for index, item in enumerate(self.value))

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.fail("must be a non-empty text")
        return self.value

    def optional_text(self) -> str:
        return "" if self.value is None else self.text()

    def integer(self, default: int, minimum: int, maximum: int) -> int:
        if self.value is None:
            return default
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not minimum <= self.value <= maximum:
            raise self.fail(f"must be a whole number from {minimum} to {maximum}")
        return self.value

    def pattern(self) -> re.Pattern[str] | None:
        if self.value is None:
            return None
        try:
            return re.compile(self.text())
        except re.error as error:
            raise self.fail(f"is not a regular expression: {error}") from error


def _script(node: _Node, source: str) -> Script:
    node.mapping("name", "match", "steps")
    name = node.child("name").text()
    node = _Node(node.value, f"{node.where.split(': ')[0]}: script '{name}'")
    match = _match(node.child("match"))
    captures = {group for pattern in match.patterns().values() for group in pattern.groupindex}
    turns = [turn for step in node.child("steps").items(at_least=1) for turn in _turns(step, captures)]
    return Script(name, source, match, tuple(turns))


def _match(node: _Node) -> Match:
    if node.value is None:
        return Match()
    node.mapping("prompt", "system", "model", "result", "tools")
    tools = node.child("tools").items() if node.has("tools") else iter(())
    return Match(
        prompt=node.child("prompt").pattern(),
        system=node.child("system").pattern(),
        model=node.child("model").pattern(),
        result=node.child("result").pattern(),
        tools=frozenset(tool.text() for tool in tools),
    )


def _turns(node: _Node, captures: set[str]) -> list[tuple[ScriptStep, ...]]:
    node.mapping(*_STEP_KEYS, "first_of")
    times = node.child("repeat").integer(1, 1, MAX_REPEAT)
    if not node.has("first_of"):
        return [(_step(node, captures),)] * times
    others = sorted(set(node.value) - {"first_of", "repeat"})
    if others:
        raise node.fail(f"{others[0]}: must be in the entries of first_of")
    return [tuple(_step(entry, captures) for entry in node.child("first_of").items(at_least=1))] * times


def _step(node: _Node, captures: set[str]) -> ScriptStep:
    node.mapping(*_STEP_KEYS)
    contents = [key for key in _CONTENT_KEYS if node.has(key)]
    if node.has("error") == bool(contents):
        raise node.fail("must have either an error or text, thinking or calls")
    stop_reason = node.child("stop_reason")
    if stop_reason.value is not None and stop_reason.value not in STOP_REASONS:
        raise stop_reason.fail(f"must be one of {', '.join(STOP_REASONS)}")
    step = ScriptStep(
        text=node.child("text").optional_text(),
        thinking=node.child("thinking").optional_text(),
        calls=tuple(_call(call) for call in node.child("calls").items()) if node.has("calls") else (),
        when=_when(node.child("when")),
        error=_error(node.child("error")),
        stop_reason=stop_reason.value,
        usage=_usage(node.child("usage")),
        delay_ms=node.child("delay_ms").integer(0, 0, MAX_DELAY_MS),
        chunk=node.child("chunk").integer(40, 1, 1_000_000),
        chunk_delay_ms=node.child("chunk_delay_ms").integer(0, 0, MAX_DELAY_MS),
    )
    _check_placeholders(node, step, captures)
    return step


def _call(node: _Node) -> ToolCall:
    node.mapping("tool", "input")
    given = node.child("input")
    if given.value is not None and not isinstance(given.value, dict):
        raise given.fail("must be a mapping, the tool's input")
    return ToolCall(node.child("tool").text(), given.value or {})


def _when(node: _Node) -> When:
    if node.value is None:
        return When()
    node.mapping("result", "not_result", "is_error")
    is_error = node.child("is_error")
    if is_error.value not in (None, True, False):
        raise is_error.fail("must be true or false")
    return When(node.child("result").pattern(), node.child("not_result").pattern(), is_error.value)


def _error(node: _Node) -> StepError | None:
    if node.value is None:
        return None
    node.mapping("status", "type", "message", "retry_after_s")
    status = node.child("status").integer(529, 400, 599)
    kind = node.child("type").optional_text() or TYPES_BY_STATUS.get(status, "api_error")
    message = node.child("message").optional_text() or "This error is part of the script."
    retry = node.child("retry_after_s")
    return StepError(status, kind, message, retry.integer(0, 0, 3600) if retry.value is not None else None)


def _usage(node: _Node) -> dict[str, int]:
    if node.value is None:
        return {}
    keys = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    node.mapping(*keys)
    return {key: node.child(key).integer(0, 0, 10**9) for key in keys if node.has(key)}


def _check_placeholders(node: _Node, step: ScriptStep, captures: set[str]) -> None:
    known = captures | set(step.when.result.groupindex if step.when.result else ())
    message = step.error.message if step.error else ""
    for text in _strings([step.text, step.thinking, message, [call.input for call in step.calls]]):
        for name in PLACEHOLDER.findall(text):
            if name not in known:
                groups = ", ".join(sorted(known)) or "none"
                raise node.fail(
                    f"{{{{ {name} }}}} is not a named group of the script's patterns (known groups: {groups})"
                )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
