"""Metrics as Prometheus reads them: families of samples from rows of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

# Whatever operators and tenants name is bounded: more values of one label than this become one, ``other``.
MOST_VALUES: Final = 200
OTHER: Final = "other"

Rows = Iterable[tuple[Sequence[str], float | None]]


def gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    """A family of what is now; rows are label values and a number, and None is left out."""
    family = GaugeMetricFamily(f"myctobot_{name}", text, labels=labels)
    for values, number in rows:
        if number is not None:
            family.add_metric(values, number)
    return family


def number(name: str, text: str, value: float | None) -> Metric:
    """One thing that is now."""
    return gauge(name, text, (), [((), value)])


def counter(name: str, text: str, labels: Sequence[str], counts: Mapping[str, float]) -> Metric:
    """A family of what only grows; a key has the label values, with a space between."""
    family = CounterMetricFamily(f"myctobot_{name}", text, labels=labels)
    for key, count in sorted(counts.items()):
        family.add_metric(key.split(" ") if labels else (), count)
    return family


def summary(name: str, text: str, labels: Sequence[str], sums: Mapping[str, tuple[float, float]]) -> Metric:
    """A family of counts and sums, by key as of ``counter``."""
    family = SummaryMetricFamily(f"myctobot_{name}", text, labels=labels)
    for key, (count, total) in sorted(sums.items()):
        family.add_metric(key.split(" "), int(count), total)
    return family


def bounded(rows: Sequence[tuple[str, Any]], merge: Callable[[Any, Any], Any]) -> list[tuple[str, Any]]:
    """Keep the first label values, and merge what comes after them into one.

    Args:
        rows: label value and its figures; those that matter most first.
        merge: makes one of two figures.
    """
    kept = list(rows[:MOST_VALUES])
    if rest := rows[MOST_VALUES:]:
        merged = rest[0][1]
        for _, figures in rest[1:]:
            merged = merge(merged, figures)
        kept.append((OTHER, merged))
    return kept
