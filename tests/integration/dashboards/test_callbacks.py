"""A job's callbacks on its page."""

from __future__ import annotations

import pytest

from jobs.callbacks.models import Callback, Delivery
from jobs.lifecycle.submit import cancel
from myctobot.tenants.models import Role, Tenant
from shards.models.shard import Shard
from tests.factories.control_plane import Api, make_job, make_member, make_tenant

pytestmark = pytest.mark.django_db


def test_callbacks_and_what_became_of_them_are_shown_and_sent_again(tenant: Tenant, shard: Shard) -> None:
    member, viewer = make_member(tenant, "anna"), make_member(tenant, "vera", Role.VIEWER)
    job = make_job(tenant, callback_url="https://ci.example.com/hook")
    cancel(tenant, job.public_id)
    callback = Callback.objects.get()
    Callback.objects.update(state="given_up")
    Delivery.objects.create(callback=callback, status=503, error="The endpoint answered 503.", took_ms=12)
    page = Api.session(member).http.get(f"/jobs/{job.public_id}/").content.decode()
    assert "503 in 12 ms" in page
    path = f"/jobs/{job.public_id}/callbacks/{callback.public_id}/resend/"
    assert path in page
    assert path not in Api.session(viewer).http.get(f"/jobs/{job.public_id}/").content.decode()
    assert Api.session(viewer).http.post(path).status_code == 403
    assert Api.session(member).http.post(path).status_code == 302
    assert Callback.objects.get().state == "waiting"
    outsider = make_member(make_tenant("other"), "otto")
    assert Api.session(outsider).http.post(path).status_code == 404
