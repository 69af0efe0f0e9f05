"""Checks of the parts of a request that the gateway needs. The upstream checks the rest.

Only those parts become objects. Everything else, such as the texts of a conversation, is skipped and stays in the body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict, TypeVar, cast

import msgspec

from myctobot.gateway.errors import BadRequest
from myctobot.gateway.policy import Feature, FeatureKind

# Anthropic's API accepts 32 MB; images and documents need them.
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MAX_MODEL_LENGTH: Final = 200
MAX_TOKEN_LENGTH: Final = 512
# Opening braces bound the objects that a body can become. Texts may contain braces, so the limit is far above need.
MAX_BRACES: Final = 250_000
MAX_ITEMS: Final = 100_000
MAX_CONTENT_DEPTH: Final = 8
_EMPTY_LIST: Final = re.compile(rb"\[[ \t\r\n]*\]")
_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")
# Place of an error in a list, as msgspec writes it.
_PLACE: Final = re.compile(r"`\$\[(\d+)\]")
_NO_JSON: Final = "The request's body must be JSON in UTF-8 without excessive nesting"

T = TypeVar("T")


@dataclass(frozen=True)
class ModelRequest:
    """Body of a call to ``/v1/messages`` or ``/v1/messages/count_tokens``.

    A provider gets the unchanged bytes of the body. ``features`` are the parts that a policy allows or refuses.
    """

    body: bytes = field(repr=False)
    model: str
    stream: bool = False
    features: tuple[Feature, ...] = ()


_ABSENT: Final = msgspec.Raw()


class _Fields(msgspec.Struct, gc=False):
    model: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT
    max_tokens: msgspec.Raw = _ABSENT
    stream: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    mcp_servers: msgspec.Raw = _ABSENT
    container: msgspec.Raw = _ABSENT
    betas: msgspec.Raw = _ABSENT
    anthropic_beta: msgspec.Raw = _ABSENT


class _MessageFields(msgspec.Struct, gc=False):
    role: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT


class _Typed(msgspec.Struct, gc=False):
    type: msgspec.Raw = _ABSENT


class _Block(msgspec.Struct, gc=False):
    source: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT
    file_id: msgspec.Raw = _ABSENT


class _Source(msgspec.Struct, gc=False):
    type: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT


class _ContentBlock(TypedDict, total=False):
    type: str
    text: str
    content: str | list[_ContentBlock] | _ContentBlock | None
    is_error: bool | None


class _Message(TypedDict):
    role: str
    content: str | list[_ContentBlock]


class _Tool(TypedDict, total=False):
    name: str


class _Conversation(TypedDict, total=False):
    model: str
    system: str | list[_ContentBlock] | None
    messages: list[_Message]
    tools: list[_Tool] | None


def parse_messages(body: bytes) -> ModelRequest:
    """Check the body of ``POST /v1/messages``.

    Raises:
        BadRequest: a field is missing or of the wrong type; the sentence names it.
    """
    return _parse(body, with_max_tokens=True)


def parse_count_tokens(body: bytes) -> ModelRequest:
    """Check the body of ``POST /v1/messages/count_tokens``.

    Raises:
        BadRequest: a field is missing or of the wrong type; the sentence names it.
    """
    return _parse(body, with_max_tokens=False)


def parse_conversation(body: bytes) -> dict[str, Any]:
    """Return the parts of a body that describe its conversation; the body has passed ``parse_messages``.

    Everything else, such as the inputs of tools, is skipped, so that the braces of the body bound its objects.

    Raises:
        BadRequest: a part has another type.
    """
    conversation: Any = _decode(body, _Conversation, "messages: must be a conversation of texts and content blocks")
    return cast(dict[str, Any], conversation)


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token from ``x-api-key`` or ``Authorization: Bearer``; None when the value cannot be a token."""
    token = headers.get("x-api-key") or ""
    if not token:
        scheme, _, rest = (headers.get("authorization") or "").partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else ""
    fits = 0 < len(token) <= MAX_TOKEN_LENGTH and token.isascii() and token.isprintable() and " " not in token
    return token if fits else None


def check_encoding(headers: Mapping[str, str]) -> None:
    """Check that the body is not compressed: its size would be known only after its expansion.

    Raises:
        BadRequest: the body has a Content-Encoding.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise BadRequest(f"Content-Encoding: {encoding[:20]!r} is not accepted; send the body without compression")


def _parse(body: bytes, *, with_max_tokens: bool) -> ModelRequest:
    # A body of small objects would take many times its size in memory.
    if body.count(b"{") > MAX_BRACES:
        raise BadRequest(f"The request's body has more than {MAX_BRACES} opening braces; send a shorter conversation")
    if not _OBJECT.match(body):
        _decode(body, msgspec.Raw, _NO_JSON)
        raise BadRequest("The request's body must be a JSON object with model, messages and max_tokens")
    fields = _decode(body, _Fields, _NO_JSON)
    model = _word(fields.model, "model", "the model's name, with")
    features = _FeatureReader()
    features.read_messages(fields.messages)
    stream = False
    if with_max_tokens:
        problem = "max_tokens: must be the maximum number of output tokens, as a whole number"
        if _decode(fields.max_tokens, int, problem) < 0:
            raise BadRequest(problem)
        if fields.stream is not _ABSENT:
            stream = _decode(fields.stream, bool, "stream: must be true or false")
    features.read_content("system", fields.system, depth=1)
    features.read_tools(fields.tools)
    features.read_rest(fields)
    return ModelRequest(body, model, stream, tuple(features.found.values()))


class _FeatureReader:
    """Collector of the features of one body. It keeps the first place of each."""

    def __init__(self) -> None:
        self.found: dict[tuple[FeatureKind, str], Feature] = {}

    def read_messages(self, raw: msgspec.Raw) -> None:
        problem = "messages: must be the conversation, as a list with at least one message"
        # A list of anything would become as many objects as the body has commas. Braces are bounded.
        messages = _items(raw, _MessageFields, problem, "must be an object with role and content")
        if not messages:
            raise BadRequest(problem)
        for index, message in enumerate(messages):
            name = f"messages.{index}"
            if not _starts(message.role, b'"'):
                raise BadRequest(f"{name}.role: must be a word such as user or assistant")
            if not _starts(message.content, b'"', b"["):
                raise BadRequest(f"{name}.content: must be a text or a list of content blocks")
            self.read_content(f"{name}.content", message.content, depth=1)

    def read_content(self, name: str, raw: msgspec.Raw, depth: int) -> None:
        """Read content blocks, which may contain others. Texts have no features."""
        if not _starts(raw, b"[", b"{"):
            return
        # Each level is decoded once more, so the depth bounds the time.
        if depth > MAX_CONTENT_DEPTH:
            raise BadRequest(f"{name}: has more than {MAX_CONTENT_DEPTH} levels of content blocks")
        problem = f"{name}: must be a text or a list of content blocks"
        if _starts(raw, b"{"):
            self._read_block(name, _decode(raw, _Block, problem), depth)
            return
        for index, block in enumerate(_items(raw, _Block, problem)):
            self._read_block(f"{name}.{index}", block, depth)

    def read_tools(self, raw: msgspec.Raw) -> None:
        if _is_null(raw):
            return
        for index, tool in enumerate(_items(raw, _Typed, "tools: must be a list of tools")):
            if not _is_null(tool.type):
                self._add(FeatureKind.TOOL, f"tools.{index}.type", _word(tool.type, f"tools.{index}.type"))

    def read_rest(self, fields: _Fields) -> None:
        if not _is_null(fields.mcp_servers) and not _EMPTY_LIST.fullmatch(fields.mcp_servers):
            self._add(FeatureKind.MCP_SERVERS, "mcp_servers")
        if not _is_null(fields.container):
            self._add(FeatureKind.CONTAINER, "container")
        for name, raw in (("betas", fields.betas), ("anthropic_beta", fields.anthropic_beta)):
            if raw is not _ABSENT:
                raise BadRequest(f"{name}: is not accepted in the body; send the header anthropic-beta instead")

    def _read_block(self, name: str, block: _Block, depth: int) -> None:
        if _starts(block.source, b"{"):
            source = _decode(block.source, _Source, f"{name}.source: must be an object")
            self._add(FeatureKind.SOURCE, f"{name}.source.type", _word(source.type, f"{name}.source.type"))
            self.read_content(f"{name}.source.content", source.content, depth + 1)
        if not _is_null(block.file_id):
            self._add(FeatureKind.SOURCE, f"{name}.file_id", "file")
        self.read_content(f"{name}.content", block.content, depth + 1)

    def _add(self, kind: FeatureKind, name: str, value: str = "") -> None:
        self.found.setdefault((kind, value), Feature(kind, name, value))


def _decode(raw: bytes | msgspec.Raw, kind: type[T], problem: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(problem) from error


def _items(raw: msgspec.Raw, kind: type[T], problem: str, item_problem: str = "") -> list[T]:
    """Return the items of a list of objects.

    Args:
        problem: the error of a value that is no such list.
        item_problem: that of an item, without its name; empty if it is the same.
    """
    name = problem.partition(":")[0]
    try:
        items: list[Any] = _decode(raw, list[kind], problem)  # type: ignore[valid-type]  # a type that varies
    except BadRequest as error:
        place = _PLACE.search(str(error.__cause__)) if item_problem else None
        if place:
            raise BadRequest(f"{name}.{place[1]}: {item_problem}") from error
        raise
    if len(items) > MAX_ITEMS:
        raise BadRequest(f"{name}: has more than {MAX_ITEMS} items")
    return items


def _word(raw: msgspec.Raw, name: str, form: str = "a word of") -> str:
    problem = f"{name}: must be {form} at most {MAX_MODEL_LENGTH} printable characters"
    # A character may be written as an escape of six bytes.
    word = _decode(raw, str, problem) if len(memoryview(raw)) <= 6 * MAX_MODEL_LENGTH + 2 else ""
    if not 0 < len(word) <= MAX_MODEL_LENGTH or not word.isprintable():
        raise BadRequest(problem)
    return word


def _starts(raw: msgspec.Raw, *beginnings: bytes) -> bool:
    # A decoded value starts without white space.
    return bytes(memoryview(raw)[:1]) in beginnings


def _is_null(raw: msgspec.Raw) -> bool:
    return raw is _ABSENT or bytes(memoryview(raw)[:4]) == b"null"
