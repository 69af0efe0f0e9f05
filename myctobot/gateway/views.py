"""The gateway's endpoints: who calls, is the request sound, then the upstream's answer as it comes."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from myctobot.gateway.app import SCOPE_KEY, Call
from myctobot.gateway.errors import (
    GatewayError,
    GrantsUnavailable,
    MethodNotAllowed,
    NotAuthenticated,
    UnknownPath,
    error_body,
)
from myctobot.gateway.grants import provider_key
from myctobot.gateway.requests import ModelRequest, bearer, parse_count_tokens, parse_messages
from myctobot.gateway.upstreams.base import Answer, Endpoint, UpstreamCall

Answering = Coroutine[Any, Any, HttpResponseBase]
View = Callable[[HttpRequest, Call], Answering]


def endpoint(method: str) -> Callable[[View], Callable[[HttpRequest], Answering]]:
    """Make a view that takes one method and answers its errors in Anthropic's shape."""

    def decorate(view: View) -> Callable[[HttpRequest], Answering]:
        @functools.wraps(view)
        async def wrapped(request: HttpRequest) -> HttpResponseBase:
            call = _call_of(request)
            try:
                if request.method != method:
                    raise MethodNotAllowed(method)
                return await view(request, call)
            except GatewayError as error:
                return error_response(error, call)
            except DatabaseError:
                return error_response(GrantsUnavailable(), call)

        return wrapped

    return decorate


@endpoint("POST")
async def messages(request: HttpRequest, call: Call) -> HttpResponseBase:
    return await _model_call(request, call, "messages", parse_messages)


@endpoint("POST")
async def count_tokens(request: HttpRequest, call: Call) -> HttpResponseBase:
    return await _model_call(request, call, "count_tokens", parse_count_tokens)


@endpoint("GET")
async def healthz(_request: HttpRequest, call: Call) -> HttpResponseBase:
    return JsonResponse({"status": "ok", "upstream": call.gateway.upstream.name})


async def not_found(request: HttpRequest) -> HttpResponseBase:
    return error_response(UnknownPath(), _call_of(request))


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer what nobody expected; Django has logged it."""
    return error_response(GatewayError(), _call_of(request))


def error_response(error: GatewayError, call: Call) -> HttpResponse:
    body = error_body(error.kind, error.message, call.request_id)
    headers = {"request-id": call.request_id, **error.headers}
    return HttpResponse(body, status=error.status, content_type="application/json", headers=headers)


async def _model_call(
    request: HttpRequest, call: Call, endpoint: Endpoint, parse: Callable[[bytes], ModelRequest]
) -> HttpResponseBase:
    headers = {name.lower(): value for name, value in request.headers.items()}
    token = bearer(headers)
    grant = await call.gateway.grants(token) if token else None
    if grant is None:
        raise NotAuthenticated
    call.grant = grant
    parsed = parse(request.body)
    call.model = parsed.model
    upstream_call = UpstreamCall(
        endpoint,
        parsed,
        call.request_id,
        beta=request.GET.get("beta") == "true",
        headers=headers,
        key=functools.partial(provider_key, grant),
    )
    answer = await call.stack.enter_async_context(call.gateway.upstream.answer(upstream_call))
    return await _response(answer, call)


async def _response(answer: Answer, call: Call) -> HttpResponseBase:
    call.usage = answer.usage
    headers = {**answer.headers, "cache-control": "no-cache"}
    if answer.streams:
        # Reverse proxies such as nginx must not hold pieces back.
        headers["x-accel-buffering"] = "no"
        return StreamingHttpResponse(_pieces(answer), status=answer.status, headers=headers)
    body = b"".join([piece async for piece in answer.body])
    return HttpResponse(body, status=answer.status, headers=headers)


async def _pieces(answer: Answer) -> AsyncIterator[bytes]:
    async for piece in answer.body:
        yield piece


def _call_of(request: Any) -> Call:
    return cast(Call, cast(ASGIRequest, request).scope[SCOPE_KEY])
