"""Callbacks of a real stack, whose control worker sends them to an endpoint over TLS."""

from __future__ import annotations

import json

import pytest
from standardwebhooks import Webhook

from tests.acceptance.client import Client
from tests.acceptance.conftest import Guarded

pytestmark = pytest.mark.acceptance


def test_callbacks_of_start_and_end_are_repeated_until_they_are_accepted(guarded: Guarded) -> None:
    client, hook = guarded.client, guarded.hook
    hook.statuses = [500, 200]
    job = client.run({"prompt": "THINK AND TALK"}, callback_url=hook.url)
    path = f"/jobs/{job['id']}/callbacks"
    client.wait(job["id"], lambda _: states(client, path) == ["delivered", "delivered"])
    secret = client.http.get("/callback-secret").json()["secret"]
    deliveries = [(headers["webhook-id"], json.loads(text)["type"]) for headers, text in hook.received]
    # The endpoint refused the first callback, so it arrived again with the same id.
    assert [kind for _, kind in deliveries].count("job.completed") + [kind for _, kind in deliveries].count(
        "job.started"
    ) == 3
    assert len(set(deliveries)) == 2
    for headers, text in hook.received:
        Webhook(secret).verify(text, headers)


def states(client: Client, path: str) -> list[str]:
    return [callback["state"] for callback in client.http.get(path).json()["results"]]
