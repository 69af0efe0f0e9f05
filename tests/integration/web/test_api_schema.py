"""Schema of the REST API, which anyone may read."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from myctobot.web import api_schema

PATH = "/api/schema/"


@pytest.fixture
def generations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Forget the rendered schemas, and return a list that grows with each generation."""
    found: list[int] = []
    real: Any = SchemaGenerator.get_schema

    def generate(self: SchemaGenerator, **kwargs: Any) -> Any:
        found.append(1)
        return real(self, **kwargs)

    monkeypatch.setattr(SchemaGenerator, "get_schema", generate)
    monkeypatch.setattr(api_schema, "_rendered", {})
    return found


def test_it_is_generated_once_for_all_callers_and_parameters(generations: list[int]) -> None:
    paths = [PATH, f"{PATH}?lang=de", f"{PATH}?version=2", f"{PATH}?x=1", PATH]
    answers = [Client().get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(generations) == 1


def test_concurrent_first_calls_share_one_generation(generations: list[int]) -> None:
    threads = [threading.Thread(target=Client().get, args=[PATH]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(generations) == 1


def test_a_caller_that_has_it_gets_no_body(generations: list[int]) -> None:
    first = Client().get(PATH)
    again = Client().get(PATH, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "max-age" in first.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("path", "accept", "media_type"),
    [
        (PATH, "*/*", "application/vnd.oai.openapi"),
        (PATH, "application/json", "application/json"),
        (PATH, "application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
        (f"{PATH}?format=json", "*/*", "application/vnd.oai.openapi+json"),
    ],
)
def test_it_is_available_as_yaml_and_json(generations: list[int], path: str, accept: str, media_type: str) -> None:
    answer = Client().get(path, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == media_type
    text = answer.content.decode()
    found = json.loads(text)["openapi"] if "json" in media_type else text.splitlines()[0]
    assert "3." in found


def test_a_key_or_session_costs_no_query(generations: list[int], django_assert_num_queries: Any, db: None) -> None:
    browser = Client()
    browser.cookies["sessionid"] = "x" * 32
    with django_assert_num_queries(0):
        assert browser.get(PATH, headers={"Authorization": "Bearer mctb_unknown"}).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_is_only_read(method: str) -> None:
    assert getattr(Client(), method)(PATH).status_code == 405
