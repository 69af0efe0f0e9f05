"""Schema of the REST API: generated once in a process, because that takes half a second and anyone may ask for it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, Final

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

from myctobot.lib.crypto import digest

_CACHE_S: Final = 300
_rendered: dict[str, tuple[bytes, str]] = {}
_rendering = threading.Lock()


class _FormatParameter(DefaultContentNegotiation):
    """Negotiation that obeys ``?format=json``. Other calls have only JSON, and refuse the parameter."""

    settings = SimpleNamespace(URL_FORMAT_OVERRIDE="format")  # type: ignore[assignment]  # one of its settings is read


class ApiSchema(SpectacularAPIView):
    """Schema of the API in OpenAPI 3, as YAML or as JSON. It is the same for all callers and parameters."""

    content_negotiation_class = _FormatParameter
    # Without authentication, no call costs a query.
    authentication_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        renderer = request.accepted_renderer
        body, etag = _rendered_schema(renderer.format)
        headers = {
            "ETag": etag,
            "Cache-Control": f"public, max-age={_CACHE_S}",
            "Content-Disposition": f'inline; filename="myctobot-api.{"json" if "json" in renderer.format else "yaml"}"',
        }
        answer = HttpResponse(body, content_type=renderer.media_type, headers=headers)
        return get_conditional_response(request._request, etag=etag, response=answer) or answer


def _rendered_schema(form: str) -> tuple[bytes, str]:
    """Return the schema in a format of the renderers, and its ETag."""
    # The lock makes concurrent first calls wait for one generation.
    with _rendering:
        if form not in _rendered:
            renderer = (OpenApiJsonRenderer if "json" in form else OpenApiYamlRenderer)()
            schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # no types
            body: bytes = renderer.render(schema, renderer.media_type, {})
            _rendered[form] = body, quote_etag(digest(body.decode()))
        return _rendered[form]
