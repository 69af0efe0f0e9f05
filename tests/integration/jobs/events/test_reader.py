"""Pages of stored events."""

from __future__ import annotations

from jobs.events.reader import read_page_of_lines
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import running_job


def test_a_page_ends_at_its_size_and_has_at_least_one_event(tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    runner.events(*["x" * 100] * 5)
    one = len(read_page_of_lines(job.pk, 0, 1)[0]) + 1
    assert [len(read_page_of_lines(job.pk, 0, 9, size)) for size in (1, one, 2 * one - 1, 2 * one, 9 * one)] == [
        1, 1, 1, 2, 5,
    ]  # fmt: skip


def test_a_page_ends_at_its_number_across_batches(tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    for _ in range(4):
        runner.events("x", "y")
    assert [len(read_page_of_lines(job.pk, after, 5)) for after in (0, 1, 6, 8)] == [5, 5, 2, 0]
