"""Responses to errors outside the views: JSON under the paths of the APIs, pages or plain text elsewhere.

The responses contain only the code of the error, because a traceback belongs in the log.
"""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from myctobot.api.errors import INTERNAL_ERROR, NO_SUCH_ADDRESS, body_of, error_body
from myctobot.errors import MyctobotError
from myctobot.web.response import RawResponse
from myctobot.web.security_headers import PLAIN_POLICY

_API_PATHS = ("/api/", "/shard/")


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith(_API_PATHS)


def refused_call(path: str, error: MyctobotError) -> RawResponse:
    """Return the response to a request that was refused before Django saw it."""
    if path.startswith(_API_PATHS):
        kind, body = b"application/json", json.dumps(body_of(error))
    else:
        kind, body = b"text/plain; charset=utf-8", f"{error.message}\n"
    headers = [
        (b"content-type", kind),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", PLAIN_POLICY.encode()),
    ]
    return RawResponse(error.http_status, headers, body.encode())


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return JsonResponse(error_body("invalid_request", "The request is not valid HTTP for this address."), status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.permission_denied(request, exception)
    return JsonResponse(error_body("permission_denied", "You are not allowed to do this."), status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    return JsonResponse(NO_SUCH_ADDRESS, status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    if not _is_api(request):
        return defaults.server_error(request)
    return JsonResponse(INTERNAL_ERROR, status=500)
