from __future__ import annotations

from django.contrib.staticfiles.finders import find
from django.test import Client


def test_a_page_that_names_no_icon_gets_the_sites_icon() -> None:
    answer = Client().get("/favicon.ico")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/static/dashboards/icon.svg")
    assert find("dashboards/icon.svg")
