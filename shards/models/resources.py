"""What a shard's container gets: its template's figures, and its own where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shards.models.shard import Shard

# Key -> least, most, whether it must be whole.
_BOUNDS: Final[dict[str, tuple[float, float, bool]]] = {
    "cpus": (0.1, 512, False),
    "memory_mb": (128, 4_194_304, True),
    "disk_mb": (512, 67_108_864, True),
    "processes": (64, 4_194_304, True),
}


@dataclass(frozen=True)
class Resources:
    """Processors' worth of time, memory and disk in MB, and processes at once."""

    cpus: float = 1
    memory_mb: int = 512
    disk_mb: int = 8192
    processes: int = 1024


def spec_problems(spec: Any) -> list[str]:
    """Say what is wrong with a ``resource_spec``; empty when nothing is."""
    if not isinstance(spec, Mapping):
        return ['Must be a JSON object, such as {"cpus": 1, "memory_mb": 512}.']
    return [problem for name, value in spec.items() if (problem := _problem(str(name), value))]


def _problem(name: str, value: Any) -> str | None:
    if name not in _BOUNDS:
        return f"“{name}” is not known; known are {', '.join(_BOUNDS)}."
    least, most, whole = _BOUNDS[name]
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        return f"“{name}” must be a {'whole ' if whole else ''}number from {least:g} to {most:g}."
    return None


def resources_of(shard: Shard) -> Resources:
    """What the container of a shard shall have."""
    template = shard.template
    base = {name: getattr(template, name) for name in _BOUNDS} if template else {}
    own = {name: value for name, value in shard.resource_spec.items() if name in _BOUNDS}
    return Resources(**{**base, **own})
