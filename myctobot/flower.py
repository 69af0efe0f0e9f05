"""Flower, which shows Celery's workers and what they do: its pages alone, for operators alone.

    python -m myctobot.flower [--fd N]

It reads its own settings (``FLOWER_…``). Its API could send tasks and stop workers, and its metrics need no password:
neither is served. It listens where whoever comes has been asked who they are: with a password of its own, or on a
Unix socket that only a proxy may use.
"""

from __future__ import annotations

import argparse
import socket
import sys
from typing import Any, Final

from flower import command, urls
from flower.app import Flower
from flower.options import options
from tornado.httpserver import HTTPServer

from myctobot.celery import app

_NOT_SERVED: Final = ("/api/", "/metrics")
_NO_LOGIN: Final = (
    "Flower would show itself to everybody: set FLOWER_BASIC_AUTH=user:password (or FLOWER_AUTH and FLOWER_OAUTH2_KEY, "
    "…_SECRET, …_REDIRECT_URI), or let it listen on a socket that only a proxy may use (FLOWER_UNIX_SOCKET)."
)


class OperatorsFlower(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower without what changes anything, and on a socket that is open already if there is one."""

    fd: int | None = None

    def start_http_server(self) -> int | None:
        if self.fd is None:
            port: int | None = super().start_http_server()
            return port
        given = socket.socket(fileno=self.fd)
        given.setblocking(False)
        HTTPServer(self, xheaders=self.options.xheaders).add_socket(given)
        number: int = given.getsockname()[1]
        return number


def serve_pages_alone() -> None:
    """Take the API and the metrics from what Flower serves; its application knows no other way to leave them out."""
    urls.handlers[:] = [one for one in urls.handlers if not _path(one).startswith(_NOT_SERVED)]


def _path(handler: Any) -> str:
    # A tuple, or a named address of tornado's.
    return str(handler[0] if isinstance(handler, tuple) else handler.regex.pattern)


def asks_who_comes() -> bool:
    """Whether Flower or a proxy does. A login without a name or a password is none, though Flower takes it."""
    logins = [login.partition(":") for login in options.basic_auth or []]
    if not all(name and password for name, _, password in logins):
        return False
    return bool(logins or options.auth or options.unix_socket)


def main() -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m myctobot.flower")
    parser.add_argument("--fd", type=int, help="a listening socket")
    wanted = parser.parse_args()
    options.read_only, options.address = True, "127.0.0.1"
    command.apply_env_options()
    if not asks_who_comes():
        print(_NO_LOGIN, file=sys.stderr)  # noqa: T201  # for whoever started it
        return 2
    command.extract_settings()
    serve_pages_alone()
    OperatorsFlower.fd = wanted.fd
    flower = OperatorsFlower(capp=app, options=options, **urls.settings)
    command.signal.signal(command.signal.SIGTERM, command.sigterm_handler)
    flower.start_http_server()
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        flower.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
