from __future__ import annotations

import pytest

from myctobot.web.body_limits import DEFAULT_BYTES, BodyLimits

LIMITS = BodyLimits({"/jobs": 10, "/jobs/<str:id>/retry": 20, "/jobs/special/*": 30, "/jobs/*": 40, "/none": 0})


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/jobs", 10),
        ("/jobs/one/retry", 20),
        ("/jobs/special/one", 30),
        ("/jobs/special/retry", 20),
        ("/jobs/one", 40),
        ("/jobs/", 40),
        ("/jobs/one/retry/", 40),
        ("/jobs/a\nb", 40),
        ("/none", 0),
        ("/Jobs", None),
        ("//jobs", None),
        ("/jobs\n", None),
        ("/none/", None),
        ("jobs", None),
        ("", None),
    ],
)
def test_the_first_matching_route_counts(path: str, limit: int | None) -> None:
    assert LIMITS.of_route(path) == limit
    assert LIMITS.of_request("POST", path) == (DEFAULT_BYTES if limit is None else limit)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "INVENTED"])
def test_other_methods_have_no_body(method: str) -> None:
    assert LIMITS.of_request(method, "/jobs") == 0


def test_a_dot_of_a_route_is_a_dot() -> None:
    assert BodyLimits({"/a.b": 1}).of_route("/axb") is None
