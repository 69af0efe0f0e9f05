"""Alerts to operators: channels, grouping, repetition and retries."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from standardwebhooks import Webhook

from shards.lifecycle.transitions import transition
from shards.models import Shard
from shards.monitoring import alerts
from shards.monitoring.alert_rules import MAX_SINGLE, MAX_TRIES, next_pause_s
from shards.monitoring.alerts import alert, alert_once, deliver_due
from shards.monitoring.channels import EmailChannel
from shards.monitoring.models import Alert
from tests.factories.control_plane import make_shard
from tests.fixtures.endpoint import Endpoint, endpoint

pytestmark = pytest.mark.django_db
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def hook(tmp_path: Path, settings: Any) -> Iterator[Endpoint]:
    with endpoint(tmp_path) as found:
        settings.ALERT_WEBHOOK_URL = found.url
        settings.ALERT_WEBHOOK_SECRET = SECRET
        settings.CALLBACK_CA_FILE = str(found.certificate)
        yield found


@pytest.fixture
def letters(settings: Any) -> list[mail.EmailMessage]:
    settings.ALERT_EMAILS = ["ops@example.com", "anna@example.com"]
    found: list[mail.EmailMessage] = mail.outbox
    return found


def pass_time(seconds: float = 11) -> None:
    """Make all alerts older."""
    for one in Alert.objects.all():
        moved = {name: getattr(one, name) - timedelta(seconds=seconds) for name in ("created_at", "ready_at", "due_at")}
        Alert.objects.filter(pk=one.pk).update(**moved)


def subjects(hook: Endpoint) -> list[str]:
    return [json.loads(text)["data"]["subject"] for _, text in hook.received]


def fall(shard: Shard) -> None:
    transition(shard, "suspect", reason="silent since noon")


def test_every_channel_delivers_an_alert_once(shard: Shard, hook: Endpoint, letters: list[mail.EmailMessage]) -> None:
    fall(shard)
    assert deliver_due() == 0, "it waits for others of its kind first"
    pass_time()
    assert deliver_due() == 1
    pass_time(10_000)
    assert deliver_due() == 0
    assert subjects(hook) == ["Shard one is suspect"]
    (letter,) = letters
    assert (letter.subject, letter.to) == ("[MyCTOBot] Shard one is suspect", ["ops@example.com", "anna@example.com"])
    assert "Shard one was ready and is suspect. Silent since noon" in letter.body
    assert set(Alert.objects.get().delivered) == {"log", "webhook", "email"}


def test_a_webhook_is_signed_and_keeps_its_id(shard: Shard, hook: Endpoint) -> None:
    hook.statuses = [500, 200]
    fall(shard)
    for _ in range(2):
        pass_time(100)
        deliver_due()
    assert len({headers["webhook-id"] for headers, _ in hook.received}) == 1
    for headers, text in hook.received:
        body = Webhook(SECRET).verify(text, headers)
        assert body["type"] == "shard.suspect"
        assert body["text"].startswith("Shard one is suspect: Shard one was ready")


def test_without_a_secret_it_is_not_signed(shard: Shard, hook: Endpoint, settings: Any) -> None:
    settings.ALERT_WEBHOOK_SECRET = ""
    fall(shard)
    pass_time()
    deliver_due()
    assert "webhook-signature" not in hook.received[0][0]


def test_without_other_channels_the_log_has_the_alert(shard: Shard, caplog: pytest.LogCaptureFixture) -> None:
    fall(shard)
    pass_time()
    deliver_due()
    assert "Shard one is suspect" in caplog.text
    assert Alert.objects.get().ended_at is not None


def test_a_failing_channel_causes_no_repetition_by_another(
    shard: Shard, hook: Endpoint, letters: list[mail.EmailMessage]
) -> None:
    hook.statuses = [500, 302, 200]
    fall(shard)
    for _ in range(4):
        pass_time(200)
        deliver_due()
    assert (len(hook.received), len(letters)) == (3, 1)
    assert Alert.objects.get().failures == {}


def test_a_failing_mail_server_causes_no_second_webhook(
    shard: Shard, hook: Endpoint, letters: list[mail.EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: mail.EmailMessage, fail_silently: bool = False) -> int:
        raise smtplib.SMTPServerDisconnected("gone")

    fall(shard)
    with monkeypatch.context() as broken:
        broken.setattr(mail.EmailMessage, "send", refuse)
        for _ in range(2):
            pass_time(200)
            deliver_due()
        assert Alert.objects.get().failures == {"email": "The mail server refused the message: gone"}
    pass_time(500)
    deliver_due()
    assert (len(hook.received), len(letters)) == (1, 1)


def test_delivery_ends_after_five_tries(shard: Shard, hook: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    hook.statuses = [503]
    fall(shard)
    for _ in range(8):
        pass_time(10_000)
        deliver_due()
    assert len(hook.received) == MAX_TRIES == 5
    row = Alert.objects.get()
    assert row.ended_at is not None
    assert row.failures == {"webhook": "The URL answered 503."}
    assert "alert.undelivered" in caplog.text


def test_the_tries_are_over_within_about_half_an_hour() -> None:
    pauses = [next_pause_s(tries) for tries in range(1, MAX_TRIES + 1)]
    assert pauses[-1] is None
    assert 1500 < sum(pause for pause in pauses if pause is not None) < 2100


def test_a_failing_channel_is_tried_once_per_batch(hook: Endpoint) -> None:
    hook.statuses = [503]
    for number in range(3):
        alert("operation.failed", f"Provision of {number} failed", "No space left.")
    pass_time()
    assert deliver_due() == 3
    assert len(hook.received) == 1


class Killed(BaseException):
    """End of the process."""


def test_a_crash_neither_loses_nor_repeats_an_alert(
    shard: Shard, hook: Endpoint, letters: list[mail.EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: EmailChannel, one: Alert, text: str) -> None:
        raise Killed

    fall(shard)
    pass_time()
    with monkeypatch.context() as broken:
        broken.setattr(EmailChannel, "send", crash)
        with pytest.raises(Killed):
            deliver_due()
    assert deliver_due() == 0, "another process may still deliver it"
    pass_time(200)
    assert deliver_due() == 1
    assert (len(hook.received), len(letters)) == (1, 1)


def test_an_alert_of_a_rolled_back_transaction_is_not_sent(shard: Shard, hook: Endpoint) -> None:
    with transaction.atomic():
        fall(shard)
        transaction.set_rollback(True)
    pass_time()
    assert deliver_due() == 0


def test_alerts_of_a_flapping_shard_are_counted_for_ten_minutes(shard: Shard, hook: Endpoint) -> None:
    fall(shard)
    transition(shard, "ready")
    pass_time()
    deliver_due()
    for _ in range(4):
        fall(shard)
        transition(shard, "ready")
        pass_time(60)
        deliver_due()
    assert sorted(subjects(hook)) == ["Shard one is ready", "Shard one is suspect"]
    pass_time(400)
    deliver_due()
    assert len(hook.received) == 4
    texts = [json.loads(text)["data"]["text"] for _, text in hook.received[2:]]
    assert all("This is the latest of 4 occurrences since " in text for text in texts)


def test_many_at_once_are_one_message_that_names_the_common_cause(hook: Endpoint) -> None:
    shards = [make_shard(f"s-{number}")[0] for number in range(30)]
    for shard in shards[:25]:
        fall(shard)
    pass_time()
    assert deliver_due() == 1
    pass_time(10_000)
    assert deliver_due() == 0
    ((_, text),) = hook.received
    data = json.loads(text)["data"]
    assert data["subject"] == "25 shards fell silent"
    assert data["text"].startswith("25 of 30 shards fell silent at once, so a common cause is likely")
    assert "… and 5 more." in data["text"]
    assert Alert.objects.filter(part_of=None).count() == 1


def test_alerts_shortly_after_others_are_grouped_with_them(hook: Endpoint) -> None:
    shards = [make_shard(f"s-{number}")[0] for number in range(10)]
    for shard in shards[:3]:
        fall(shard)
    pass_time(11)
    for shard in shards[3:6]:
        fall(shard)
    deliver_due()
    assert subjects(hook) == ["6 shards fell silent"]
    assert "6 of 10 shards fell silent at once" in hook.received[0][1]


@pytest.mark.parametrize(("fallen", "messages"), [(MAX_SINGLE, MAX_SINGLE), (MAX_SINGLE + 1, 1)])
def test_few_alerts_are_sent_one_by_one(hook: Endpoint, fallen: int, messages: int) -> None:
    shards = [make_shard(f"s-{number}")[0] for number in range(20)]
    for shard in shards[:fallen]:
        fall(shard)
    pass_time()
    assert deliver_due() == messages
    assert not any("at once" in text for _, text in hook.received)


def test_the_subject_of_an_alert_is_one_line(letters: list[mail.EmailMessage]) -> None:
    alert("operation.failed", "Provision failed\nBcc: all@example.com", "a\x00b\nc")
    pass_time()
    deliver_due()
    (letter,) = letters
    assert letter.subject == "[MyCTOBot] Provision failed Bcc: all@example.com"
    assert "Bcc" not in letter.message()
    assert "a?b\nc" in letter.body


def test_alert_once_is_never_repeated(hook: Endpoint) -> None:
    for _ in range(3):
        alert_once("control.deaf", "No shard reports", "Check.", key="that outage")
        pass_time(1000)
        deliver_due()
    assert subjects(hook) == ["No shard reports"]


def test_a_claimed_alert_is_not_delivered_twice(shard: Shard, hook: Endpoint) -> None:
    fall(shard)
    pass_time()
    alerts._claim_due()
    assert deliver_due() == 0
    # Its process was killed, so another one delivers it after the claim expires.
    pass_time(181)
    assert deliver_due() == 1
    assert subjects(hook) == ["Shard one is suspect"]


def test_an_unreachable_webhook(settings: Any, shard: Shard) -> None:
    settings.ALERT_WEBHOOK_URL = "http://127.0.0.1:1/"
    fall(shard)
    pass_time()
    deliver_due()
    row = Alert.objects.get()
    assert row.failures["webhook"].startswith("The URL could not be reached: ")
    assert row.due_at > row.created_at


def test_an_answer_without_end_is_not_read(shard: Shard, hook: Endpoint) -> None:
    hook.body = b"x" * 1_000_000
    fall(shard)
    pass_time()
    assert deliver_due() == 1
    assert "webhook" in Alert.objects.get().delivered
