"""Samples that Prometheus would read."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from myctobot.metrics.views import read_exposition

Labels = tuple[tuple[str, str], ...]


def scrape() -> dict[str, dict[Labels, float]]:
    """Read the current samples, by name and labels."""
    return parsed(read_exposition().decode())


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(name: str, **labels: str) -> float:
    """Read the current value of one sample."""
    return scrape()[f"myctobot_{name}"][tuple(sorted(labels.items()))]
