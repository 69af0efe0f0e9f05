"""Alerts about processes that the supervisor cannot start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from myctobot.lib.failing_parts import FailingPart, report_path, report_text
from shards.monitoring.models import Alert
from shards.monitoring.part_alerts import ALERT_AFTER, watch_parts
from shards.tasks import tell_task
from tests.factories.control_plane import make_operator

pytestmark = pytest.mark.django_db


@pytest.fixture
def report() -> Iterator[Path]:
    path = report_path(settings.MYCTOBOT_HOME)
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def failing(name: str, *, for_s: float, ended: bool = False) -> FailingPart:
    now = timezone.now()
    return FailingPart(name, now - timedelta(seconds=for_s), 9, now if ended else None)


def test_a_long_outage_alerts_once_and_a_short_one_does_not(report: Path) -> None:
    long_s = ALERT_AFTER.total_seconds() + 1
    report.write_text(report_text([failing("gateway", for_s=long_s), failing("flower", for_s=5)]))
    for _ in range(3):
        tell_task()
    (alert,) = Alert.objects.all()
    assert (alert.kind, alert.subject) == ("stack.part_failed", "gateway does not start")


def test_an_outage_alerts_when_it_is_over_too(report: Path) -> None:
    report.write_text(report_text([failing("postgres", for_s=60, ended=True)]))
    watch_parts()
    assert Alert.objects.get().subject == "postgres did not start for a time"


@pytest.mark.parametrize(("name", "delivered"), [("beat", True), ("control", True), ("gateway", False)])
def test_web_delivers_when_the_workers_cannot(report: Path, name: str, delivered: bool) -> None:
    report.write_text(report_text([failing(name, for_s=60)]))
    watch_parts()
    Alert.objects.update(ready_at=timezone.now() - timedelta(seconds=1), due_at=timezone.now() - timedelta(seconds=1))
    watch_parts()
    assert (Alert.objects.get().ended_at is not None) is delivered


def test_operators_see_what_does_not_start(report: Path) -> None:
    report.write_text(report_text([failing("beat", for_s=60), failing("web", for_s=60, ended=True)]))
    browser = Client()
    browser.force_login(make_operator())
    page = browser.get("/ops/").text
    assert "beat does not start" in page.replace("</strong>", "")
    assert "web does not start" not in page.replace("</strong>", "")
    assert "beat does not start" in browser.get("/ops/", headers={"HX-Request": "true"}).text.replace("</strong>", "")


def test_health_checks_name_it(report: Path) -> None:
    report.write_text(report_text([failing("beat", for_s=60)]))
    answer = Client().get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "failing_parts": ["beat"]})
