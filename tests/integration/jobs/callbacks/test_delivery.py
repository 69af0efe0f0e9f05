"""Callbacks: one for each event, signed, redelivered until accepted, with a history."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db.models.functions import Now
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from jobs.callbacks import delivery, signing
from jobs.callbacks.delivery import deliver_due
from jobs.callbacks.models import Callback, Delivery
from jobs.callbacks.slots import MAX_OF_HOST
from jobs.lifecycle.cancel import cancel
from jobs.models import Job
from myctobot.lib.clock import database_now
from myctobot.lib.http_client import TIMEOUT_S
from myctobot.tenants.key_rotation import rotate, sealed_models
from myctobot.tenants.models import CallbackSecret, Role, Tenant
from tests.factories.control_plane import SECRETS, Api, Runner, end_pause, make_job, make_tenant, running_job
from tests.factories.personas import Persona
from tests.fixtures.endpoint import Endpoint, endpoint

# Deliveries use threads with database connections of their own.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hook(tmp_path: Path, settings: Any) -> Iterator[Endpoint]:
    with endpoint(tmp_path) as found:
        settings.CALLBACK_PRIVATE_HOSTS = ["localhost"]
        settings.CALLBACK_CA_FILE = str(found.certificate)
        delivery._outgoing.cache_clear()
        yield found
    delivery._outgoing.cache_clear()


def kinds(job: Job) -> list[str]:
    return list(Callback.objects.filter(job=job).order_by("pk").values_list("kind", flat=True))


def due_now() -> None:
    Callback.objects.update(next_try_at=Now() - timedelta(seconds=1))


def started(tenant: Tenant, key: str, hook: Endpoint, **changes: Any) -> tuple[Job, Runner]:
    return running_job(tenant, key, callback_url=hook.url, **changes)


def test_start_and_end_are_delivered_and_signed(tenant: Tenant, key: str, hook: Endpoint) -> None:
    job, runner = started(tenant, key, hook, secrets=SECRETS)
    runner.finish(result={"summary": "Done.", "branch": "fix/a"})
    assert kinds(job) == ["job.started", "job.completed"]
    deliver_due()
    bodies = [json.loads(text) for _, text in hook.received]
    assert sorted(body["type"] for body in bodies) == ["job.completed", "job.started"]
    for headers, text in hook.received:
        Webhook(signing.secret_of(tenant)).verify(text, headers)
        assert "canary" not in text + str(headers)
    (end,) = [body["data"] for body in bodies if body["type"] == "job.completed"]
    assert (end["id"], end["status"], end["branch"], end["summary"]) == (job.public_id, "completed", "fix/a", "Done.")


def test_repeated_calls_of_a_runner_create_one_callback(tenant: Tenant, key: str, hook: Endpoint) -> None:
    job, runner = started(tenant, key, hook)
    runner.claim()
    for _ in range(3):
        runner.finish()
    assert kinds(job) == ["job.started", "job.completed"]
    for _ in range(3):
        deliver_due()
    assert len(hook.received) == 2


def test_a_retry_is_neither_a_second_start_nor_a_failure(tenant: Tenant, key: str, hook: Endpoint) -> None:
    job, runner = started(tenant, key, hook)
    runner.finish("failed", error={"code": "disk_full", "message": "Full.", "retryable": True})
    assert kinds(job) == ["job.started"]
    end_pause(job)
    from jobs.dispatch.round import dispatch_round

    dispatch_round()
    again = Runner(key, job, 2, "u" * 40)
    again.claim()
    again.finish("failed", error={"code": "push_denied", "message": "No right.", "retryable": False})
    assert kinds(job) == ["job.started", "job.failed"]


def test_a_cancel_is_delivered(tenant: Tenant, hook: Endpoint, key: str) -> None:
    job = make_job(tenant, callback_url=hook.url)
    cancel(tenant, job.public_id)
    assert kinds(job) == ["job.cancelled"]


def test_without_an_address_there_is_no_callback(tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    runner.finish()
    assert kinds(job) == []


def refreshed(callback: Callback) -> Callback:
    return Callback.objects.get(pk=callback.pk)


def one(tenant: Tenant, hook: Endpoint) -> Callback:
    """Create a callback that waits for delivery."""
    job = make_job(tenant, callback_url=hook.url)
    cancel(tenant, job.public_id)
    return Callback.objects.get(job=job)


def test_a_refused_callback_is_sent_again_with_the_same_id(tenant: Tenant, key: str, hook: Endpoint) -> None:
    hook.statuses = [500, 503, 200]
    callback = one(tenant, hook)
    for _ in range(3):
        due_now()
        deliver_due()
    due_now()
    assert deliver_due() == 0
    callback.refresh_from_db()
    assert (callback.state, callback.tries) == ("delivered", 3)
    assert {headers["webhook-id"] for headers, _ in hook.received} == {callback.public_id}
    assert list(callback.deliveries.order_by("pk").values_list("status", flat=True)) == [500, 503, 200]


def test_deliveries_have_pauses(tenant: Tenant, key: str, hook: Endpoint) -> None:
    hook.statuses = [500]
    one(tenant, hook)
    deliver_due()
    assert deliver_due() == 0
    assert Callback.objects.filter(next_try_at__gt=Now() + timedelta(seconds=3)).count() == 1


@pytest.mark.parametrize(
    ("retry_after", "earliest_s"),
    [("600", 590), ("Fri, 31 Dec 2100 00:00:00 GMT", 4 * 3600 - 10), ("9" * 100, 3), ("soon", 3)],
)
def test_an_endpoint_can_ask_for_a_longer_pause(
    tenant: Tenant, key: str, hook: Endpoint, retry_after: str, earliest_s: int
) -> None:
    hook.statuses, hook.retry_after = [429], retry_after
    callback = one(tenant, hook)
    deliver_due()
    left = refreshed(callback).next_try_at - database_now()
    assert earliest_s < left.total_seconds() < max(10, earliest_s * 1.3)


@pytest.mark.parametrize(
    ("status", "age", "state"),
    [(410, timedelta(0), "disabled"), (500, timedelta(hours=25), "given_up"), (302, timedelta(0), "waiting")],
)
def test_final_states(tenant: Tenant, key: str, hook: Endpoint, status: int, age: timedelta, state: str) -> None:
    hook.statuses, hook.location = [status], "https://localhost/elsewhere"
    callback = one(tenant, hook)
    Callback.objects.update(created_at=Now() - age)
    deliver_due()
    callback.refresh_from_db()
    assert callback.state == state
    assert len(hook.received) == 1


def test_a_private_address_is_refused_and_recorded(tenant: Tenant, key: str, hook: Endpoint, settings: Any) -> None:
    settings.CALLBACK_PRIVATE_HOSTS = []
    delivery._outgoing.cache_clear()
    job = make_job(tenant, callback_url="https://localhost/hook")
    cancel(tenant, job.public_id)
    deliver_due()
    assert "not public" in Delivery.objects.get().error
    assert hook.received == []


def test_a_callback_is_sent_again_after_a_kill(
    tenant: Tenant, key: str, hook: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = one(tenant, hook)
    monkeypatch.setattr(delivery, "record", lambda *_: None)
    deliver_due()
    monkeypatch.undo()
    assert deliver_due() == 0
    due_now()
    assert deliver_due() == 1
    assert [headers["webhook-id"] for headers, _ in hook.received] == [callback.public_id] * 2


def test_more_callbacks_than_slots_are_delivered_in_one_call(tenant: Tenant, key: str, hook: Endpoint) -> None:
    for each in (tenant, make_tenant("other")):
        for _ in range(MAX_OF_HOST + 2):
            one(each, hook)
    assert deliver_due() == 2 * (MAX_OF_HOST + 2)
    assert not Callback.objects.exclude(state="delivered").exists()


def test_a_callback_of_the_previous_release_is_delivered(tenant: Tenant, key: str, hook: Endpoint) -> None:
    callback = one(tenant, hook)
    Callback.objects.update(tenant=None, host="")
    assert deliver_due() == 1
    callback = refreshed(callback)
    assert (callback.state, callback.tenant, callback.host) == ("delivered", tenant, urlsplit(hook.url).netloc)


def test_an_error_of_one_callback_does_not_end_the_others(
    tenant: Tenant, key: str, hook: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, well, real = one(tenant, hook), one(tenant, hook), delivery.record

    def record(callback: Callback, answer: Any) -> None:
        if callback.pk == broken.pk:
            raise ValueError("no row can hold this")
        real(callback, answer)

    monkeypatch.setattr(delivery, "record", record)
    assert deliver_due() == 2
    assert [refreshed(row).state for row in (broken, well)] == ["waiting", "delivered"]


def test_a_process_that_stops_starts_no_delivery(tenant: Tenant, key: str, hook: Endpoint) -> None:
    one(tenant, hook)
    delivery.stop_delivering()
    try:
        assert deliver_due() == 0
    finally:
        delivery._stopping.clear()
    assert deliver_due() == 1


def test_an_unreadable_secret_affects_its_tenant_only(tenant: Tenant, key: str, hook: Endpoint) -> None:
    mine, other = one(tenant, hook), one(make_tenant("other"), hook)
    signing.secret_of(tenant)
    CallbackSecret.objects.filter(tenant=tenant).update(sealed="v1:made with a key that is gone")
    assert deliver_due() == 2
    assert [row.state for row in (refreshed(mine), refreshed(other))] == ["waiting", "delivered"]
    assert "secret cannot be decrypted" in mine.deliveries.get().error
    admin = Api.of(tenant, Role.ADMIN)
    assert admin.get("/callback-secret").json()["error"]["code"] == "signing_secret_unreadable"
    assert admin.post("/callback-secret").json()["secret"].startswith("whsec_")
    due_now()
    deliver_due()
    assert refreshed(mine).state == "delivered"


def test_a_silent_name_server_affects_its_callback_only(
    tenant: Tenant, key: str, hook: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, deadline = socket.getaddrinfo, time.monotonic() + 2 * TIMEOUT_S

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        while host == "hang.example" and not hook.received and time.monotonic() < deadline:
            time.sleep(0.05)
        return real("localhost", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for number in range(24):
        stuck = make_tenant(f"stuck-{number}")
        cancel(stuck, make_job(stuck, callback_url="https://hang.example/").public_id)
    other = one(tenant, hook)
    deliver_due()
    assert refreshed(other).state == "delivered"


class TestSecret:
    def test_only_admins_read_and_rotate_it(self, tenant: Tenant) -> None:
        admin = Api.of(tenant, Role.ADMIN)
        first = admin.get("/callback-secret").json()["secret"]
        assert first.startswith("whsec_")
        assert admin.get("/callback-secret").json()["secret"] == first
        assert admin.post("/callback-secret").json()["secret"] != first
        for role in (Role.VIEWER, Role.MEMBER):
            assert Api.of(tenant, role).get("/callback-secret").status_code == 403
        assert Api().get("/callback-secret").status_code == 401
        other = Api.of(make_tenant("other"), Role.ADMIN).get("/callback-secret").json()["secret"]
        assert other not in (first, admin.get("/callback-secret").json()["secret"])

    def test_the_previous_secret_verifies_for_a_day(self, tenant: Tenant) -> None:
        old = signing.secret_of(tenant)
        new = signing.rotate(tenant)
        for secret in (old, new):
            Webhook(secret).verify("{}", signing.headers(tenant, "msg_1", "{}"))
        CallbackSecret.objects.update(rotated_at=Now() - timedelta(days=1, seconds=1))
        with pytest.raises(WebhookVerificationError):
            Webhook(old).verify("{}", signing.headers(tenant, "msg_1", "{}"))

    def test_it_is_encrypted_and_re_encrypted_with_new_keys(self, tenant: Tenant) -> None:
        secret = signing.secret_of(tenant)
        assert secret not in CallbackSecret.objects.get().sealed
        assert CallbackSecret in sealed_models()
        assert rotate([CallbackSecret]).done == 1
        assert signing.secret_of(tenant) == secret


class TestHistory:
    def test_the_api_shows_it_and_redelivers(self, tenant: Tenant, key: str, hook: Endpoint) -> None:
        hook.statuses = [500, 200]
        callback = one(tenant, hook)
        deliver_due()
        api, path = Api.of(tenant), f"/jobs/{callback.job.public_id}/callbacks"
        (shown,) = api.get(path).json()["results"]
        assert (shown["kind"], shown["state"], shown["deliveries"][0]["status"]) == ("job.cancelled", "waiting", 500)
        assert api.post(f"{path}/{callback.public_id}/resend").status_code == 202
        deliver_due()
        (shown,) = api.get(path).json()["results"]
        assert shown["state"] == "delivered"
        assert [row["asked_by"] for row in shown["deliveries"]] == ["", "API key test", ""]

    def test_a_delivered_callback_can_be_redelivered(self, tenant: Tenant, key: str, hook: Endpoint) -> None:
        callback = one(tenant, hook)
        deliver_due()
        path = f"/jobs/{callback.job.public_id}/callbacks/{callback.public_id}/resend"
        assert Api.of(tenant).post(path).status_code == 202
        deliver_due()
        assert len(hook.received) == 2

    def test_viewers_read_and_outsiders_find_nothing(
        self, tenant: Tenant, outsider: Persona, key: str, hook: Endpoint
    ) -> None:
        callback = one(tenant, hook)
        path = f"/jobs/{callback.job.public_id}/callbacks"
        viewer, stranger = Api.of(tenant, Role.VIEWER), outsider.api_by_key
        assert viewer.get(path).status_code == 200
        assert viewer.post(f"{path}/{callback.public_id}/resend").status_code == 403
        assert stranger.get(path).status_code == 404
        assert stranger.post(f"{path}/{callback.public_id}/resend").status_code == 404
        assert Api.of(tenant).post(f"{path}/msg_unknown/resend").json()["error"]["code"] == "unknown_callback"
        assert Api().get(path).status_code == 401
