"""Template filters for numbers on the operators' pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from myctobot.contract.jobs import JobStatus
from myctobot.dashboards.ops.listing import ShardRow
from myctobot.dashboards.templatetags.console import duration

register = template.Library()

_GB_FROM_MB = 1024


@register.filter
def ends(counts: Mapping[str, int]) -> str:
    """Format the counts of ended jobs: 12 completed, 3 failed."""
    order = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
    return ", ".join(f"{counts[status]} {status}" for status in order if counts.get(status))


@register.filter
def memory(shard: ShardRow) -> str:
    """Format the used and total memory: 300 of 512 MB, 1.2 of 8 GB."""
    used, total = shard.memory_mb, shard.memory_total_mb
    if used is None or total is None:
        return "—"
    if total < 2 * _GB_FROM_MB:
        return f"{used} of {total} MB"
    return f"{used / _GB_FROM_MB:.1f} of {total / _GB_FROM_MB:.0f} GB"


@register.filter
def wait(seconds: float | None) -> str:
    """Format a wait; a short one has tenths of a second."""
    if seconds is None:
        return "—"
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


@register.filter
def breakable(name: str) -> SafeString:
    """Return the name of a class with possible line breaks after each capability."""
    parts = re.split(r"(?<=[+@])", name)
    return format_html_join(mark_safe("<wbr>"), "{}", ((part,) for part in parts))


@register.filter
def signed(number: int) -> str:
    """Format a number with its sign and a typographic minus."""
    return f"+{number}" if number > 0 else f"\u2212{-number}"


@register.filter
def seconds_until(since: datetime | None, now: datetime) -> float | None:
    """Return the seconds between two times; None without a first time."""
    return None if since is None else (now - since).total_seconds()


@register.filter
def unlocalized(number: float) -> str:
    """Format a number for SVG, independent of the language."""
    return f"{number:g}"
