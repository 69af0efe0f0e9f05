"""Flower, which shows Celery's workers: only its pages, and only for operators.

    python -m myctobot.flower [--fd N]

Flower reads its own settings (``FLOWER_…``). Its API can send tasks and stop workers, and its metrics need no password,
so neither is served. It starts only with a login of its own, or on a Unix socket that only a proxy may use.
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
    "Flower has no login: set FLOWER_BASIC_AUTH=user:password (or FLOWER_AUTH and FLOWER_OAUTH2_KEY, "
    "…_SECRET, …_REDIRECT_URI), or FLOWER_UNIX_SOCKET to a socket that only a proxy may use."
)


class OperatorsFlower(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower without actions, on an inherited socket if there is one."""

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


def remove_api_and_metrics() -> None:
    """Remove the API and the metrics from Flower's routes; Flower has no option for this."""
    urls.handlers[:] = [one for one in urls.handlers if not _path(one).startswith(_NOT_SERVED)]


def _path(handler: Any) -> str:
    # A route is a tuple or a named URL of tornado.
    return str(handler[0] if isinstance(handler, tuple) else handler.regex.pattern)


def requires_login() -> bool:
    """Tell whether Flower or a proxy requires a login. Flower itself accepts a login without name or password."""
    logins = [login.partition(":") for login in options.basic_auth or []]
    if not all(name and password for name, _, password in logins):
        return False
    return bool(logins or options.auth or options.unix_socket)


def main() -> int:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m myctobot.flower")
    parser.add_argument("--fd", type=int, help="a listening socket")
    wanted = parser.parse_args()
    options.read_only, options.address = True, "127.0.0.1"
    command.apply_env_options()
    if not requires_login():
        print(_NO_LOGIN, file=sys.stderr)  # noqa: T201  # this is the program's output
        return 2
    command.extract_settings()
    remove_api_and_metrics()
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
