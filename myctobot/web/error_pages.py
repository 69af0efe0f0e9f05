"""Responses to errors outside the views: JSON under the paths of the APIs, pages or plain text elsewhere.

The responses contain only the code of the error, because a traceback belongs in the log. The pages need no database and
no session, because either may be the cause of the error.
"""

from __future__ import annotations

import json
import sys
from typing import Final

import structlog
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from myctobot.api.errors import INTERNAL_ERROR, NO_SUCH_ADDRESS, body_of, error_body, retry_headers
from myctobot.contract.terminal_text import remove_sequences
from myctobot.errors import MyctobotError, Unavailable
from myctobot.lib.ids import public_id
from myctobot.lib.postgres.outage import is_outage
from myctobot.web.previous_page import previous_page
from myctobot.web.response import RawResponse
from myctobot.web.security_headers import PLAIN_POLICY

log = structlog.get_logger(__name__)

_API_PATHS = ("/api/", "/shard/")
# The text fields of our forms, by name. No field with a secret is in this list.
_TYPED: Final = {
    "prompt": "Prompt",
    "additional_instructions": "Further instructions",
    "issue_key": "Ticket",
    "repo_url": "Repository",
    "base_branch": "Start from",
    "branch": "Push to",
    "repository": "Repository",
}


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


def _unavailable() -> HttpResponse:
    error = Unavailable()
    return JsonResponse(body_of(error), status=error.http_status, headers=retry_headers(error))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return _page(400, "The request is not valid", "Check the address, or open the page again.")
    return JsonResponse(error_body("invalid_request", "The request is not valid HTTP for this address."), status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return _page(403, "You are not allowed to do this", "An operator can give your account the permission.")
    return JsonResponse(error_body("permission_denied", "You are not allowed to do this."), status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return _page(404, "There is no such page", "Check the address.")
    return JsonResponse(NO_SUCH_ADDRESS, status=404)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return the page for a form whose token is not valid; it shows the typed text, so that none is lost."""
    if _is_api(request):
        return JsonResponse(error_body("permission_denied", f"CSRF Failed: {reason}"), status=403)
    typed = [(label, remove_sequences(request.POST.get(name, "")).strip()) for name, label in _TYPED.items()]
    return _page(
        403,
        "Nothing was sent",
        "This form belongs to an earlier login, or your browser sends no cookies. Open the page again and send it from "
        "there.",
        typed=[(label, text) for label, text in typed if text],
        back=previous_page(request),
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the page for an exception, with an id that is also in the log, or the answer to an outage."""
    # Django calls this while it handles the error.
    error = sys.exc_info()[1]
    if _is_api(request):
        return _unavailable() if is_outage(error) else JsonResponse(INTERNAL_ERROR, status=500)
    request_id = public_id("req")
    log.error("request.failed", request_id=request_id, method=request.method, path=request.path, exc_info=error)
    if is_outage(error):
        response = _page(
            503,
            "MyCTOBot is not available at the moment",
            "Its database does not answer. Running jobs continue, and what you typed stays in this tab. Try again in a "
            "few seconds.",
            request_id=request_id,
        )
        for name, value in retry_headers(Unavailable()).items():
            response.headers[name] = value
    else:
        response = _page(
            500,
            "Something went wrong on our side",
            "Try again. If it happens again, give your operator this id, which is also in the log.",
            request_id=request_id,
        )
    # Django would log the same traceback again, without the id.
    response._has_been_logged = True  # type: ignore[attr-defined]  # see django.utils.log.log_response
    return response


def _page(status: int, heading: str, *sentences: str, **more: object) -> HttpResponse:
    page = render_to_string("errors/page.html", {"heading": heading, "sentences": sentences, **more})
    return HttpResponse(page, status=status, headers={"Cache-Control": "private, no-store"})
