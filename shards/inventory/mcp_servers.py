"""Validation of MCP servers for a shard's ``config.json``; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from myctobot.contract.direct_addresses import MAX_DIRECT_ADDRESSES, parse_direct_address
from myctobot.contract.names import SLUG_PATTERN, is_slug
from myctobot.lib.patterns import NOT_BLANK_PATTERN

_KEYS: Final = {"command", "args", "env", "capabilities", "addresses"}
_MAX_SERVERS: Final = 50
_TEXT: Final = {"type": "string", "pattern": r"^[^\u0000]*$"}
_SLUG: Final = {"type": "string", "pattern": f"^{SLUG_PATTERN}$"}
# The same rules for the schema of the API.
SERVERS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "propertyNames": _SLUG,
    "maxProperties": _MAX_SERVERS,
    "additionalProperties": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "pattern": f"^{NOT_BLANK_PATTERN}$"},
            "args": {"type": "array", "items": _TEXT},
            "env": {"type": "object", "propertyNames": _TEXT, "additionalProperties": _TEXT},
            "capabilities": {"type": "array", "items": _SLUG},
            "addresses": {
                "type": "array",
                "items": {"type": "string", "format": "direct-address"},
                "maxItems": MAX_DIRECT_ADDRESSES,
            },
        },
        "required": ["command"],
        "additionalProperties": False,
    },
}
_EXAMPLE: Final = '{"git": {"command": "mcp-server-git", "args": [], "env": {}}}'


def problems_of(servers: Any) -> list[str]:
    """Return the problems of MCP servers; empty if they are valid."""
    if not isinstance(servers, Mapping):
        return [f"Must be a JSON object, such as {_EXAMPLE}."]
    if len(servers) > _MAX_SERVERS:
        return [f"Must have at most {_MAX_SERVERS} servers."]
    return [problem for name, server in servers.items() for problem in _server_problems(str(name)[:60], server)]


def _server_problems(name: str, server: Any) -> Iterator[str]:
    if not is_slug(name):
        yield f"“{name}” is not a lower-case slug (a-z, 0-9, inner dashes)."
    if not isinstance(server, Mapping):
        yield f"“{name}” must be an object with command, args and env."
        return
    if unknown := sorted(map(str, set(server) - _KEYS)):
        yield f"“{name}” has an unknown key “{unknown[0][:60]}”. Known keys: {', '.join(sorted(_KEYS))}."
    if not _texts([server.get("command")]) or not server["command"].strip():
        yield f"“{name}”.command must name the program to start."
    if not _texts(server.get("args", [])):
        yield f"“{name}”.args must be a list of texts."
    environment = server.get("env", {})
    if not isinstance(environment, Mapping) or not _texts([*environment, *environment.values()]):
        yield f"“{name}”.env must map names to texts."
    names = server.get("capabilities", [])
    if not _texts(names) or not all(is_slug(each) for each in names):
        yield f"“{name}”.capabilities must be a list of lower-case slugs."
    yield from _address_problems(name, server.get("addresses", []))


def _address_problems(name: str, addresses: Any) -> Iterator[str]:
    if not _texts(addresses) or len(addresses) > MAX_DIRECT_ADDRESSES:
        yield f"“{name}”.addresses must be a list of at most {MAX_DIRECT_ADDRESSES} texts."
        return
    for address in addresses:
        try:
            parse_direct_address(address)
        except ValueError as error:
            yield f"“{name}”.addresses: {error}."
            return


def without_values(servers: Any) -> Any:
    """Return the servers for the audit log, with the values of their environment masked."""
    if not isinstance(servers, Mapping):
        return servers
    return {
        name: {**server, "env": dict.fromkeys(server.get("env") or {}, "(set)")}
        if isinstance(server, Mapping) and isinstance(server.get("env", {}), Mapping)
        else server
        for name, server in servers.items()
    }


def _texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(each, str) and _is_storable(each) for each in values)


def _is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can store a text: it has no NUL and no half of a surrogate pair."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False
