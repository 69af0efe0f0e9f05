"""HTTP client for URLs that tenants choose, such as those of callbacks.

The client resolves the name, checks every address and connects to a checked address, with the name in SNI and Host. So
a name that resolves to another address a moment later has no effect. The client follows no redirect, uses no proxy of
the environment and reads only the beginning of a response.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx
import structlog

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
_MAX_READ = 64 * 1024
# A date of HTTP has 29 characters.
_MAX_RETRY_AFTER = 40
_PORTS = (443, 8443)


class NotSent(Exception):
    """The request was not answered or is not allowed; the message gives the reason."""


@dataclass(frozen=True)
class OutgoingResponse:
    """Response to a request.

    Attributes:
        status: HTTP status code.
        took_ms: milliseconds from the resolution of the name to the head of the response.
        retry_after: the header ``Retry-After``; None if it is absent or too long.
    """

    status: int
    took_ms: int
    retry_after: str | None = None


class Outgoing:
    """Send requests to public hosts over TLS.

    Args:
        is_public: returns true for an IP address that requests may go to.
        private_hosts: names and addresses that are allowed although they are not public.
        ca_file: path of further trusted certificates; empty for none.
    """

    def __init__(
        self, is_public: Callable[[str], bool], private_hosts: Collection[str] = (), ca_file: str = ""
    ) -> None:
        self._is_public, self._private = is_public, frozenset(map(_in_dns, private_hosts))
        self._tls = ssl.create_default_context()
        if ca_file:
            self._tls.load_verify_locations(ca_file)

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> OutgoingResponse:
        """Send one POST request; all of it takes at most ten seconds.

        Raises:
            NotSent: the URL is not allowed, the host is unreachable, or the response is late.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await self._send(url, content, headers)
        except TimeoutError as error:
            raise NotSent(f"no answer within {TIMEOUT_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, UnicodeError) as error:
            raise NotSent(f"it could not be reached: {str(error) or type(error).__name__}") from error
        took_ms = round((time.monotonic() - began) * 1000)
        retry_after = response.headers.get("retry-after", "")[: _MAX_RETRY_AFTER + 1]
        return OutgoingResponse(
            response.status_code, took_ms, retry_after if 0 < len(retry_after) <= _MAX_RETRY_AFTER else None
        )

    async def _send(self, url: str, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        parts, host, port = self._parse(url)
        address = await self._resolve(host, port)
        shown = f"[{address}]" if ":" in address else address
        target = f"https://{shown}:{port}{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        name = f"[{host}]" if ":" in host else host
        sent = {**headers, "Host": name if port == 443 else f"{name}:{port}", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=TIMEOUT_S) as client,
            client.stream("POST", target, content=content, headers=sent, extensions={"sni_hostname": host}) as response,
        ):
            read = 0
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read >= _MAX_READ:
                    break
            return response

    def _parse(self, url: str) -> tuple[SplitResult, str, int]:
        try:
            parts = urlsplit(url)
            port = parts.port or 443
            host = _in_dns(parts.hostname or "")
        except ValueError as error:
            raise NotSent("the URL is not well-formed") from error
        if parts.scheme != "https" or not host:
            raise NotSent("the URL must start with https://")
        if parts.username is not None or parts.password is not None:
            raise NotSent("the URL contains a user name or password")
        if port not in _PORTS and host not in self._private:
            raise NotSent(f"port {port} is not allowed; use 443 or 8443")
        return parts, host, port

    async def _resolve(self, host: str, port: int) -> str:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise _no_public_address(host) from error
        addresses = [str(entry[4][0]) for entry in found]
        # One private address is enough to refuse, because a connection could use any of them.
        if host not in self._private and not all(self._is_public(address) for address in addresses):
            log.warning("outgoing.address_refused", host=host[:100], addresses=addresses[:10])
            raise _no_public_address(host)
        return addresses[0]


def _no_public_address(host: str) -> NotSent:
    # One sentence for both causes, because the difference would tell tenants which internal names exist.
    return NotSent(
        f"the host {host[:100]} has no public address, or an address that is not public; check its name, or ask the "
        "operator to allow the host"
    )


def _in_dns(host: str) -> str:
    """Return the name of a host in the format of DNS, SNI and Host."""
    return host.encode("idna").decode().lower()
