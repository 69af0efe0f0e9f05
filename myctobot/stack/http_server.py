"""Uvicorn's protocols with bounds on headers, silence and the number of connections.

Uvicorn itself bounds none of these with httptools. The bodies of requests are bounded by the application
(``myctobot.web.body_limiter``).
"""

from __future__ import annotations

import asyncio
import http
import socket
from collections.abc import Callable
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from myctobot.lib.shutdown import shutdown_notice
from myctobot.stack.connections import ConnectionLimits, Connections, Refusal

# Request line and headers together, as in most servers.
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
# Requests that wait on one connection for the response to an earlier one.
MAX_PIPELINED: Final = 16
# The rest of a refused body is discarded for this time. A client that is cut off at once may not read the response.
DISCARD_S: Final = 5.0

_HEADERS_TOO_LARGE: Final = Refusal(
    431, f"The headers of a request may have {MAX_HEADER_BYTES} bytes and {MAX_HEADERS} lines."
)
_HEADERS_TOO_SLOW: Final = Refusal(408, "The headers of the request did not arrive in time.")
_TOO_MANY_REQUESTS: Final = Refusal(429, "Wait for responses before you send more requests on this connection.")


class ServerConfig(uvicorn.Config):
    """Configuration of a server with limits on its connections.

    Args:
        application: the ASGI application, or its ``module:name``.
        options: further options of uvicorn.
    """

    def __init__(self, application: Any, **options: Any) -> None:
        super().__init__(application, http=HttpProtocol, ws=WebSocketProtocol, **options)
        # Set before the server starts. The application's settings have the limits, and it is loaded first.
        self.limits: ConnectionLimits
        self.connections: Connections

    def limit(self, limits: ConnectionLimits) -> None:
        """Set the limits of this process's connections."""
        self.limits, self.connections = limits, Connections(limits)


class Server(uvicorn.Server):
    """Server that tells the application about its end, before it waits for the end of all responses."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        shutdown_notice.give()
        await super().shutdown(sockets)


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client.

    A deadline runs while the headers of a request are incomplete, and after the response to a request whose body is
    incomplete. The rest of that body is read and discarded, also if the connection ends with the response. Between two
    requests uvicorn's own keep-alive timeout runs. While the application answers, which may take hours for a stream,
    none of them runs.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        own = cast(ServerConfig, config)
        self._limits, self._open_connections = own.limits, own.connections
        self._deadline: asyncio.TimerHandle | None = None
        # Bytes since the last complete part of a message: header section, piece of the body, or end.
        self._unparsed = 0
        self._awaits_headers = True
        self._refusal: Refusal | None = None
        self._is_last_message = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        super().connection_made(transport)
        refusal = self._open_connections.open(transport, self.client[0] if self.client else None)
        if refusal is None:
            self._start_deadline(self._limits.header_timeout_s)
        else:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._open_connections.close(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        # Trailers and extensions of chunks count too, because the parser keeps them or reads them without an end.
        if self._unparsed > MAX_HEADER_BYTES:
            self._refuse(_HEADERS_TOO_LARGE)
        elif self._awaits_headers and self._deadline is None and not self._is_answering():
            self._start_deadline(self._limits.header_timeout_s)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._stop_parsing(_HEADERS_TOO_LARGE)
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop_parsing(_TOO_MANY_REQUESTS)
        self._cancel_deadline()
        self._unparsed, self._awaits_headers = 0, False
        # Uvicorn adds trailers to its list later. The application must not take them for headers.
        self.scope["headers"] = list(self.headers)
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = cast(asyncio.Transport, _LingeringTransport(self.transport, self._end_connection))

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._cancel_deadline()
        self._unparsed, self._awaits_headers = 0, True
        super().on_message_complete()
        if self._is_last_message:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._awaits_headers and not self._is_answering() and not self.transport.is_closing():
            self._start_deadline(DISCARD_S)

    def handle_websocket_upgrade(self) -> None:
        self._cancel_deadline()
        self._unparsed, self._awaits_headers = 0, False
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or Refusal(400, msg))

    def _stop_parsing(self, refusal: Refusal) -> None:
        # The parser turns an exception of a callback into an invalid request.
        self._refusal = refusal
        raise ValueError(refusal.sentence)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_deadline(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline = self.loop.call_later(seconds, self._on_deadline)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._awaits_headers and self._unparsed:
            self._refuse(_HEADERS_TOO_SLOW)
        else:
            self.transport.close()

    def _end_connection(self) -> None:
        """Close the connection after a response, but first discard the rest of an incomplete body."""
        if self._awaits_headers or not self.transport.can_write_eof():
            self.transport.close()
        else:
            # With unread data the system would reset the connection, and the client might lose the response.
            self._is_last_message = True
            self.transport.write_eof()
            self._start_deadline(DISCARD_S)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with plain text, unless a response is under way, and close the connection."""
        self._cancel_deadline()
        if not self._is_answering():
            body = f"{refusal.sentence}\n".encode()
            reason = http.HTTPStatus(refusal.status).phrase
            head = (
                f"HTTP/1.1 {refusal.status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


class _LingeringTransport:
    """Transport of one response, whose ``close`` leaves the decision to the protocol."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport, self.close = transport, close

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection after its upgrade. It counts until it is closed; uvicorn's pings detect silent clients.

    After a message that is too large or malformed, the client gets the code and the reason, and time to read them. A
    connection that is closed with unread data is reset, and then the client would get neither.
    """

    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        self._is_refused = True
        assert self.conn.close_sent is not None  # noqa: S101  # the parser has written the close frame
        frame = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": frame.code, "reason": frame.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        # Uvicorn closes the connection after the application's end only without this timer.
        self.close_timer = self.loop.call_later(DISCARD_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        cast(ServerConfig, self.config).connections.close(self.transport)
        super().connection_lost(exc)
