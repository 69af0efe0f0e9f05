"""Builders for metric families of Prometheus from rows of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

# Operators and tenants choose label values, so values beyond this number merge into ``other``.
MAX_VALUES: Final = 200
OTHER: Final = "other"

Rows = Iterable[tuple[Sequence[str], float | None]]


def gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    """Return a family of current values; rows are label values and a number, and None is left out."""
    family = GaugeMetricFamily(f"myctobot_{name}", text, labels=labels)
    for values, number in rows:
        if number is not None:
            family.add_metric(values, number)
    return family


def number(name: str, text: str, value: float | None) -> Metric:
    """Return a family with one current value and no label."""
    return gauge(name, text, (), [((), value)])


def counter(name: str, text: str, labels: Sequence[str], counts: Mapping[str, float]) -> Metric:
    """Return a family of values that only grow; a key has the label values, separated by spaces."""
    family = CounterMetricFamily(f"myctobot_{name}", text, labels=labels)
    for key, count in sorted(counts.items()):
        family.add_metric(key.split(" ") if labels else (), count)
    return family


def summary(name: str, text: str, labels: Sequence[str], sums: Mapping[str, tuple[float, float]]) -> Metric:
    """Return a family of counts and sums, with keys as in ``counter``."""
    family = SummaryMetricFamily(f"myctobot_{name}", text, labels=labels)
    for key, (count, total) in sorted(sums.items()):
        family.add_metric(key.split(" "), int(count), total)
    return family


def bounded(rows: Sequence[tuple[str, Any]], merge: Callable[[Any, Any], Any]) -> list[tuple[str, Any]]:
    """Keep the first label values, and merge all later ones into one.

    Args:
        rows: label value and its figures, the most important first.
        merge: combines two figures into one.
    """
    kept = list(rows[:MAX_VALUES])
    if rest := rows[MAX_VALUES:]:
        merged = rest[0][1]
        for _, figures in rest[1:]:
            merged = merge(merged, figures)
        kept.append((OTHER, merged))
    return kept
