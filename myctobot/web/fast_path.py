"""Handle requests with Django in the process's own threads."""

from __future__ import annotations

from io import BytesIO
from typing import cast

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse

from myctobot.web.response import RawResponse, read_body
from myctobot.web.threads import RequestThreads


class DjangoFastPath:
    """Handle a request with Django and all its middleware, for views that neither stream nor wait.

    Args:
        threads: run the views.
    """

    def __init__(self, threads: RequestThreads) -> None:
        self._threads, self._django = threads, BaseHandler()
        self._django.load_middleware()

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = await read_body(receive)
        if body is not None:
            await (await self._threads.run(self.answer, scope, body)).send(send)

    def answer(self, scope: HTTPScope, body: bytes) -> RawResponse:
        """Return Django's response to a request, in the current thread."""
        # Django treats a body without a length as empty, and a body in chunks has none.
        others = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
        scope = {**scope, "headers": [*others, (b"content-length", str(len(body)).encode())]}
        request = ASGIRequest(scope, BytesIO(body))
        response = cast(HttpResponse, self._django.get_response(request))
        names = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        cookies = [(b"Set-Cookie", morsel.OutputString().encode("ascii")) for morsel in response.cookies.values()]
        headers = [pair for pair in names if pair[0].lower() != b"content-length"]
        # response.close() would also end the request's database connection, which RequestThreads keeps.
        request.close()
        return RawResponse(response.status_code, [*headers, *cookies], response.content)
