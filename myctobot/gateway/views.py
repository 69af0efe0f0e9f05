"""Views of the gateway: authenticate the call, check the request, then pass the upstream's response on."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from myctobot.gateway.app import SCOPE_KEY, GatewayCall
from myctobot.gateway.errors import (
    GatewayError,
    GatewayNotAuthenticated,
    GrantsUnavailable,
    MethodNotAllowed,
    UnknownPath,
    error_body,
)
from myctobot.gateway.grants import provider_key
from myctobot.gateway.requests import (
    ModelRequest,
    bearer,
    check_encoding,
    parse_conversation,
    parse_count_tokens,
    parse_messages,
)
from myctobot.gateway.upstreams.base import Endpoint, UpstreamCall, UpstreamResponse

ResponseCoroutine = Coroutine[Any, Any, HttpResponseBase]
View = Callable[[HttpRequest, GatewayCall], ResponseCoroutine]


def endpoint(*methods: str) -> Callable[[View], Callable[[HttpRequest], ResponseCoroutine]]:
    """Make a view that accepts these methods and returns errors in Anthropic's format."""

    def decorate(view: View) -> Callable[[HttpRequest], ResponseCoroutine]:
        @functools.wraps(view)
        async def wrapped(request: HttpRequest) -> HttpResponseBase:
            call = _call_of(request)
            try:
                if request.method not in methods:
                    raise MethodNotAllowed(", ".join(methods))
                return await view(request, call)
            except GatewayError as error:
                return error_response(error, call)
            except DatabaseError:
                return error_response(GrantsUnavailable(), call)

        return wrapped

    return decorate


@endpoint("POST")
async def messages(request: HttpRequest, call: GatewayCall) -> HttpResponseBase:
    return await _model_call(request, call, "messages", parse_messages)


@endpoint("POST")
async def count_tokens(request: HttpRequest, call: GatewayCall) -> HttpResponseBase:
    return await _model_call(request, call, "count_tokens", parse_count_tokens)


# Load balancers send HEAD.
@endpoint("GET", "HEAD")
async def healthz(_request: HttpRequest, call: GatewayCall) -> HttpResponseBase:
    return JsonResponse({"status": "ok", "upstream": call.gateway.upstream.name})


async def not_found(request: HttpRequest) -> HttpResponseBase:
    return error_response(UnknownPath(), _call_of(request))


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer an unexpected error, which Django has logged."""
    return error_response(GatewayError(), _call_of(request))


def error_response(error: GatewayError, call: GatewayCall) -> HttpResponse:
    body = error_body(error.kind, error.message, call.request_id)
    headers = {"request-id": call.request_id, **error.headers}
    return HttpResponse(body, status=error.status, content_type="application/json", headers=headers)


async def _model_call(
    request: HttpRequest, call: GatewayCall, endpoint: Endpoint, parse: Callable[[bytes], ModelRequest]
) -> HttpResponseBase:
    headers = {name.lower(): value for name, value in request.headers.items()}
    token = bearer(headers)
    grant = await call.gateway.grants(token) if token else None
    if grant is None:
        raise GatewayNotAuthenticated
    gateway, job = call.gateway, grant.job_id
    allowance = call.admit(grant)
    check_encoding(headers)
    gateway.policy.check_betas(headers.get("anthropic-beta", ""))
    body = await call.input.read_body(allowance.take)
    parsed = await gateway.parser.run(job, parse, body)
    call.model = parsed.model
    gateway.policy.check_model(parsed.model)
    gateway.policy.check_features(parsed.features)
    upstream_call = UpstreamCall(
        endpoint,
        parsed,
        call.request_id,
        beta=request.GET.get("beta") == "true",
        headers=headers,
        key=functools.partial(provider_key, grant),
        document=functools.partial(gateway.parser.run, job, parse_conversation, body),
    )
    response = await call.stack.enter_async_context(gateway.upstream.respond(upstream_call))
    return await _to_django_response(response, call)


async def _to_django_response(response: UpstreamResponse, call: GatewayCall) -> HttpResponseBase:
    call.usage = response.usage
    headers = {**response.headers, "cache-control": "no-cache"}
    if response.streams:
        call.streams = True
        # Reverse proxies such as nginx must not buffer the stream.
        headers["x-accel-buffering"] = "no"
        return StreamingHttpResponse(_read_body(response), status=response.status, headers=headers)
    body = b"".join([piece async for piece in response.body])
    return HttpResponse(body, status=response.status, headers=headers)


async def _read_body(response: UpstreamResponse) -> AsyncIterator[bytes]:
    async for piece in response.body:
        yield piece


def _call_of(request: Any) -> GatewayCall:
    return cast(GatewayCall, cast(ASGIRequest, request).scope[SCOPE_KEY])
