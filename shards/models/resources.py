"""Resource limits of a shard's container: the template's values, overridden by the shard's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from myctobot.lib.shortlist import shortlist
from shards.models import Shard

# Key -> minimum, maximum, True for integers.
_BOUNDS: Final[dict[str, tuple[float, float, bool]]] = {
    "cpus": (0.1, 512, False),
    "memory_mb": (128, 4_194_304, True),
    "disk_mb": (512, 67_108_864, True),
    "processes": (64, 4_194_304, True),
}

# The same for the schema of the API.
SPEC_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        name: {"type": "integer" if is_integer else "number", "minimum": minimum, "maximum": maximum}
        for name, (minimum, maximum, is_integer) in _BOUNDS.items()
    },
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Resources:
    """Limits of a container: CPUs, memory and disk in MB, number of processes."""

    cpus: float = 1
    memory_mb: int = 512
    disk_mb: int = 8192
    processes: int = 1024


def spec_problems(spec: Any) -> list[str]:
    """Return the problems of a ``resource_spec``; empty if it is valid."""
    if not isinstance(spec, Mapping):
        return ['Must be a JSON object, such as {"cpus": 1, "memory_mb": 512}.']
    known = [problem for name in _BOUNDS if name in spec and (problem := _problem(name, spec[name]))]
    named, others = shortlist(str(name) for name in spec if name not in _BOUNDS)
    unknown = [f"“{name[:60]}” is unknown. Known keys: {', '.join(_BOUNDS)}." for name in named]
    return [*known, *unknown, *([f"Has {others} more unknown keys."] if others else [])]


def _problem(name: str, value: Any) -> str | None:
    minimum, maximum, is_integer = _BOUNDS[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # In JSON, 512.0 is the same number as 512.
    is_number = is_number and not (is_integer and value % 1)
    if not is_number or not minimum <= value <= maximum:
        return f"“{name}” must be a {'whole ' if is_integer else ''}number from {minimum:g} to {maximum:g}."
    return None


def resources_of(shard: Shard) -> Resources:
    """Return the limits of a shard's container."""
    template = shard.template
    base = {name: getattr(template, name) for name in _BOUNDS} if template else {}
    spec = shard.resource_spec
    own = {
        name: int(spec[name]) if is_integer else spec[name]
        for name, (*_, is_integer) in _BOUNDS.items()
        if name in spec
    }
    return Resources(**{**base, **own})
