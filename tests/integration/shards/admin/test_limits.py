"""Limits on a shard's page."""

from __future__ import annotations

import pytest

from shards.admin.shard_summary import at_a_glance
from shards.providers import registry
from shards.providers.base import Features
from tests.factories.control_plane import make_shard

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("provider", "reported", "shown"),
    [
        ("", "image", "image"),
        ("", "watchdog", "watchdog"),
        ("process", "watchdog", "watchdog"),
        ("memory", "image", "image"),
        ("memory", "watchdog", "watchdog, within the 8,192 MB of the container"),
        ("removed", "watchdog", "watchdog"),
    ],
)
def test_the_disk_of_a_container_bounds_jobs_without_images(
    monkeypatch: pytest.MonkeyPatch, provider: str, reported: str, shown: str
) -> None:
    monkeypatch.setattr(registry.provider("memory"), "features", Features(limits=True), raising=False)
    shard, _ = make_shard("one")
    shard.provider = provider
    shard.report = {"limits": {"memory": "control_group", "processes": "user", "disk": reported}}
    assert at_a_glance(shard)["limits"] == {"memory": "control group", "processes": "user", "disk": shown}


def test_a_shard_that_has_not_reported_has_no_limits() -> None:
    assert at_a_glance(make_shard("one")[0])["limits"] == {}
