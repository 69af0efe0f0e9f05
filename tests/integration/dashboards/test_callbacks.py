"""A job's callbacks on its page."""

from __future__ import annotations

import pytest

from jobs.callbacks.models import Callback, Delivery
from jobs.lifecycle.cancel import cancel
from myctobot.tenants.models import Role, Tenant
from shards.models import Shard
from tests.factories.control_plane import make_job
from tests.factories.personas import Persona

pytestmark = pytest.mark.django_db


def test_callbacks_and_their_deliveries_are_shown_and_sent_again(
    tenant: Tenant, shard: Shard, owner: Persona, outsider: Persona
) -> None:
    member, viewer = owner.browser(), Persona.member(tenant, "viewer", Role.VIEWER).browser()
    job = make_job(tenant, callback_url="https://ci.example.com/hook")
    cancel(tenant, job.public_id)
    callback = Callback.objects.get()
    Callback.objects.update(state="given_up")
    Delivery.objects.create(callback=callback, status=503, error="The endpoint answered 503.", took_ms=12)
    page = member.get(f"/jobs/{job.public_id}/").content.decode()
    assert "503 in 12 ms" in page
    path = f"/jobs/{job.public_id}/callbacks/{callback.public_id}/resend/"
    assert path in page
    assert path not in viewer.get(f"/jobs/{job.public_id}/").content.decode()
    assert viewer.post(path).status_code == 403
    assert member.post(path).status_code == 302
    assert Callback.objects.get().state == "waiting"
    assert outsider.browser().post(path).status_code == 404
