"""Limits on bodies: each URL of a process has one, and no other path gets more than the default."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

from myctobot import urls as web
from myctobot.asgi import application
from myctobot.contract.limits import MAX_PROMPT_BYTES, MAX_REQUEST_BYTES
from myctobot.gateway import urls as gateway
from myctobot.web.body_limiter import BodyLimiter
from myctobot.web.body_limits import DEFAULT_BYTES, BodyLimits
from shards.shard_api.call import MAX_BODY_BYTES

# The parameters of a route, whose values do not matter, and the anchors of a regular expression.
PARAMETER = re.compile(r"<[^>]+>|\(\?P.*?\)(?=[/$])|\^|\$")


def paths(resolver: URLResolver, prefix: str = "/") -> Iterator[str]:
    """Return a path for each route."""
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from paths(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield PARAMETER.sub(lambda found: "x" if len(found[0]) > 1 else "", route)


WEB_PATHS = sorted(set(paths(get_resolver("myctobot.urls"))))
# The last pattern of the gateway matches every other path.
GATEWAY_PATHS = sorted({path for path in paths(get_resolver("myctobot.gateway.urls")) if path != "/"})


@pytest.mark.parametrize("path", WEB_PATHS)
def test_each_url_of_the_web_process_has_a_limit(path: str) -> None:
    assert web.BODY_LIMITS.of_route(path) is not None, f"add {path} to BODY_LIMITS in myctobot/urls.py"


@pytest.mark.parametrize("path", GATEWAY_PATHS)
def test_each_url_of_the_gateway_has_a_limit(path: str) -> None:
    assert gateway.BODY_LIMITS.of_route(path) is not None, f"add {path} to BODY_LIMITS in myctobot/gateway/urls.py"


def test_there_are_urls() -> None:
    assert len(WEB_PATHS) > 100
    assert GATEWAY_PATHS == ["/healthz", "/v1/messages", "/v1/messages/count_tokens"]


@pytest.mark.parametrize("limits", [web.BODY_LIMITS, gateway.BODY_LIMITS], ids=["web", "gateway"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "/x",
        "//api/v1/jobs",
        "/API/v1/jobs",
        "/healthz/",
        "/admin",
        "/v1/messages/",
        "/v2/messages",
        "/apis/v1/jobs",
    ],
)
def test_a_path_without_a_route_gets_the_default(limits: BodyLimits, path: str) -> None:
    assert limits.of_request("POST", path) == DEFAULT_BYTES


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs/", "/api/v1/jobs/x/retry/", "/api/v1/no", "/api/", "/shard/v1/", "/shard/v2/jobs/x/events"]
)
def test_an_unknown_path_of_an_api_gets_no_more(path: str) -> None:
    assert web.BODY_LIMITS.of_request("POST", path) == DEFAULT_BYTES


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/healthz", 0),
        ("/metrics", 0),
        ("/ops/queues/", 0),
        ("/login/", DEFAULT_BYTES),
        ("/admin/login/", DEFAULT_BYTES),
        ("/admin/shards/shard/1/change/", MAX_REQUEST_BYTES),
        ("/api/v1/jobs", MAX_REQUEST_BYTES),
        ("/api/v1/jobs/job_x/cancel", DEFAULT_BYTES),
        ("/shard/v1/enroll", 4096),
        ("/shard/v1/heartbeat", DEFAULT_BYTES),
        ("/shard/v1/jobs/job_x/events", MAX_BODY_BYTES),
    ],
)
def test_the_limit_of_a_route(path: str, limit: int) -> None:
    assert web.BODY_LIMITS.of_request("POST", path) == limit
    assert web.BODY_LIMITS.of_request("GET", path) == 0


def test_the_form_of_a_job_takes_the_longest_prompt() -> None:
    # Each byte may be written as three characters, and 64 KiB of instructions come in addition.
    assert web.BODY_LIMITS.of_request("POST", "/jobs/new/") > 3 * (MAX_PROMPT_BYTES + 64 * 1024)


def test_django_writes_no_body_to_disk() -> None:
    largest = max(web.BODY_LIMITS.of_request("POST", path) for path in WEB_PATHS)
    assert largest <= settings.FILE_UPLOAD_MAX_MEMORY_SIZE
    assert largest <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def test_the_limits_are_the_outermost_layer() -> None:
    assert isinstance(application, BodyLimiter)


@pytest.mark.parametrize(
    ("method", "path", "has_it"),
    [
        *((method, "/api/v1/jobs", True) for method in ("GET", "HEAD", "OPTIONS", "POST")),
        # The last two are attributes of the view, and no methods.
        *((method, "/api/v1/jobs", False) for method in ("TRACE", "DELETE", "QUERY", "DISPATCH")),
        ("GET", "/api/v1/jobs/estimate", False),
        ("GET", "/api/v1/none", True),
        ("TRACE", "/login/", True),
    ],
)
def test_the_methods_of_an_address(method: str, path: str, has_it: bool) -> None:
    assert web.has_method(method, path) == has_it
