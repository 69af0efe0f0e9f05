"""Answer plain requests for a job without REST framework.

Programs call ``POST /api/v1/jobs`` many times a second, and REST framework's work around a view costs more than storing
a job. This module reads and writes HTTP only: the request passes Django's whole middleware, the same serializer reads
it, and ``jobs.lifecycle.submit`` does the work. It returns None for each request that is unusual or refused, and then
REST framework answers it.
"""

from __future__ import annotations

from typing import Final

from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.views import APIView

from jobs.api.request_serializers import JobRequestSerializer
from jobs.api.response_serializers import serialize_new_job
from jobs.lifecycle import submit
from jobs.lifecycle.admission import WaitingLimit
from jobs.queue.waiting import CachedWaitExplainer
from myctobot.api.parsing import parsed_json
from myctobot.errors import MyctobotError
from myctobot.tenants.authentication import RecentKeys, bearer_token
from myctobot.tenants.models import Role
from myctobot.web.process_caches import process_caches

IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
MAX_IDEMPOTENCY_KEY: Final = 200
# For a larger request the cost of REST framework does not matter.
_MAX_BYTES: Final = 64 * 1024
_JSON: Final = frozenset({"application/json", "application/json; charset=utf-8"})
_RENDERER: Final = JSONRenderer()
_ACCEPTED: Final = frozenset({"*/*", "application/json"})


def answer_plain_submit(request: HttpRequest, view: APIView) -> HttpResponse | None:
    """Store the job that a plain request with an API key asks for.

    Args:
        request: for the list of jobs.
        view: the view that answers otherwise; its headers are used.

    Returns:
        The answer 201; None if the request must be answered by REST framework, and no job was stored for it.

    Raises:
        OperationalError, InterfaceError: the database failed, and a second try could store a second job.
    """
    token = bearer_token(request) if _is_plain(request) else None
    if token is None:
        return None
    caches = process_caches(request)
    keys, key = caches.get(RecentKeys), request.META.get("HTTP_IDEMPOTENCY_KEY")
    try:
        known = keys.find(token)
        if known is None or known.caller.role == Role.VIEWER:
            return None
        job_request = JobRequestSerializer.read(parsed_json(request.body, _MAX_BYTES))
        job, created = submit.submit(
            known.caller, job_request, key, guard=known.guard, waiting_limit=caches.get(WaitingLimit)
        )
    except (MyctobotError, APIException):
        # Nothing was stored. REST framework refuses the request again and writes the sentence.
        keys.discard(token)
        return None
    except (OperationalError, InterfaceError):
        # A busy thread keeps its connection, and PostgreSQL may have restarted.
        connection.close()
        if key is None:
            # The job may be stored already, and a second try would store another.
            raise
        return None
    if not created:
        return None
    body = _RENDERER.render(serialize_new_job(job, caches.get(CachedWaitExplainer)))
    headers = {**view.default_response_headers, "Location": f"{request.path}/{job.public_id}"}
    return HttpResponse(body, status=201, content_type=_RENDERER.media_type, headers=headers)


def _is_plain(request: HttpRequest) -> bool:
    """Return true if REST framework would read the request in the same way."""
    sent = request.META
    key = sent.get("HTTP_IDEMPOTENCY_KEY", "-")
    length = str(sent.get("CONTENT_LENGTH", ""))
    return (
        request.method == "POST"
        and not sent.get("QUERY_STRING")
        and sent.get("CONTENT_TYPE") in _JSON
        and sent.get("HTTP_ACCEPT", "*/*") in _ACCEPTED
        and "HTTP_COOKIE" not in sent
        and "HTTP_MYCTOBOT_TENANT" not in sent
        and (key.isascii() and 1 <= len(key) <= MAX_IDEMPOTENCY_KEY)
        and (length.isascii() and length.isdigit() and len(length) < 7 and int(length) <= _MAX_BYTES)
    )
