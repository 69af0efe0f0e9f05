"""What Django answers when no view does: JSON under the APIs' paths, Django's own pages elsewhere.

None of these says anything about the error but its code: the traceback stands in the log.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from myctobot.api.errors import INTERNAL_ERROR, NO_SUCH_ADDRESS, error_body

_API_PATHS = ("/api/", "/shard/")


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith(_API_PATHS)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return JsonResponse(error_body("invalid_request", "The request is not valid HTTP for this address."), status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.permission_denied(request, exception)
    return JsonResponse(error_body("permission_denied", "This is not allowed for you."), status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    return JsonResponse(NO_SUCH_ADDRESS, status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    if not _is_api(request):
        return defaults.server_error(request)
    return JsonResponse(INTERNAL_ERROR, status=500)
