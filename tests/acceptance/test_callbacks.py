"""Callbacks of the real stack: its own control worker sends them to an endpoint over TLS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.acceptance.client import Client
from tests.fixtures.endpoint import endpoint
from tests.stacks import PLAYS, running_stack

pytestmark = pytest.mark.acceptance


def test_a_job_tells_of_its_start_and_its_end_and_goes_on_until_it_is_heard(tmp_path: Path) -> None:
    with endpoint(tmp_path) as hook:
        hook.statuses = [500, 200]
        environ = {
            "GATEWAY_PLAYS": str(PLAYS),
            "CALLBACK_PRIVATE_HOSTS": "localhost",
            "CALLBACK_CA_FILE": str(hook.certificate),
        }
        with running_stack(tmp_path / "home", environ=environ) as stack, Client(stack) as client:
            job = client.run({"prompt": "THINK AND TALK"}, callback_url=hook.url)
            path = f"/jobs/{job['id']}/callbacks"
            client.wait(job["id"], lambda _: states(client, path) == ["delivered", "delivered"])
            secret = client.http.get("/callback-secret").json()["secret"]
    told = [(headers["webhook-id"], json.loads(text)["type"]) for headers, text in hook.received]
    # What came first was not taken and came again, under the same id.
    assert [kind for _, kind in told].count("job.completed") + [kind for _, kind in told].count("job.started") == 3
    assert len(set(told)) == 2
    for headers, text in hook.received:
        Webhook(secret).verify(text, headers)


def states(client: Client, path: str) -> list[str]:
    return [callback["state"] for callback in client.http.get(path).json()["results"]]
