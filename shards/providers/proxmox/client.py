"""Client of Proxmox's API over ``proxmoxer``, with timeouts, certificate checks, checked paths and our errors.

Properties of ``proxmoxer``: its HTTPS session follows redirects and reads proxies and certificates from the environment
(both are switched off here). For a response that is not JSON, it returns a dictionary ``{"errors": …}``. Its errors
keep the reason phrase, which contains Proxmox's message.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import requests
from proxmoxer import ProxmoxAPI
from proxmoxer.core import ResourceException
from requests.adapters import HTTPAdapter

from shards.providers.errors import ProviderError, ProviderRefused, ProviderUnreachable
from shards.providers.proxmox.error_mapping import from_answer
from shards.providers.proxmox.errors import NotTrusted, OutcomeUnknown
from shards.providers.proxmox.settings import Settings

_CONNECT_S: Final = 5
# One part of a path. ``proxmoxer`` joins parts like a file system, so '..' and a leading '/' would change the path.
_PART = re.compile(r"(?!\.)[A-Za-z0-9._:@!-]+", re.ASCII)

Method = Literal["GET", "POST", "PUT", "DELETE"]


class _Pinned(HTTPAdapter):
    """Adapter that trusts one certificate by its fingerprint, independently of its issuer."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint.replace(":", "").lower()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, assert_fingerprint=self._fingerprint)


class Client:
    """Client of the API. Threads may share it, because each thread gets its own session."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()

    def get(self, *path: str | int, **params: Any) -> Any:
        return self._call("GET", path, params)

    def post(self, *path: str | int, **params: Any) -> Any:
        return self._call("POST", path, params)

    def put(self, *path: str | int, **params: Any) -> Any:
        return self._call("PUT", path, params)

    def delete(self, *path: str | int, **params: Any) -> Any:
        return self._call("DELETE", path, params)

    def rows(self, *path: str | int, **params: Any) -> list[dict[str, Any]]:
        """Get a list of objects; Proxmox pages only logs."""
        found = self.get(*path, **params)
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise ProviderError(f"Proxmox answered {_path_text(path)} with something that is not a list.")
        return found

    def record(self, *path: str | int, **params: Any) -> dict[str, Any]:
        """Get one object."""
        found = self.get(*path, **params)
        if not isinstance(found, dict):
            raise ProviderError(f"Proxmox answered {_path_text(path)} with something that is not an object.")
        return found

    def task(self, method: Method, *path: str | int, **params: Any) -> str:
        """Start a background task of Proxmox and return its UPID."""
        upid = self._call(method, path, params)
        if not isinstance(upid, str) or not upid.startswith("UPID:"):
            raise OutcomeUnknown(f"Proxmox answered {method} {_path_text(path)} with something that is not a task.")
        return upid

    def _call(self, method: Method, path: tuple[str | int, ...], params: dict[str, Any]) -> Any:
        parts = [str(part) for part in path]
        if wrong := [part for part in parts if not _PART.fullmatch(part)]:
            raise ProviderError(f"'{wrong[0][:60]}' cannot be part of a path of Proxmox's API.")
        resource = self._api()(parts)
        try:
            answer = self._request(resource, method, params)
        except ResourceException as error:
            raise from_answer(error, method, _path_text(path)) from error
        except requests.exceptions.SSLError as error:
            raise NotTrusted(self._untrusted(error)) from error
        except requests.exceptions.TooManyRedirects as error:
            raise ProviderError("PROXMOX_URL answers with a redirect, so it is not the API's address.") from error
        except requests.exceptions.InvalidURL as error:
            raise ProviderError("PROXMOX_URL is not a valid address.") from error
        except requests.exceptions.RequestException as error:
            raise self._unreachable(error, method, _path_text(path)) from error
        if isinstance(answer, dict) and set(answer) == {"errors"}:
            raise ProviderError("PROXMOX_URL answers with something that is not JSON, so it is not the API's address.")
        return answer

    @staticmethod
    def _request(resource: Any, method: Method, params: dict[str, Any]) -> Any:
        """Send a request. Repeat a read once if its connection closes, as pveproxy closes idle ones."""
        send = getattr(resource, method.lower())
        try:
            return send(**params)
        except (requests.exceptions.SSLError, requests.exceptions.Timeout):
            raise
        except requests.exceptions.ConnectionError as error:
            if method != "GET" or "NewConnectionError" in repr(error):
                raise
        return send(**params)

    def _unreachable(self, error: requests.RequestException, method: str, path: str) -> ProviderUnreachable:
        host = urlsplit(self._settings.url).netloc
        if isinstance(error, requests.exceptions.ConnectTimeout) or "NewConnectionError" in repr(error):
            return ProviderUnreachable(f"Proxmox at {host} cannot be reached.")
        is_timeout = isinstance(error, requests.exceptions.Timeout)
        problem = "did not answer in time" if is_timeout else "closed the connection"
        kind = ProviderUnreachable if method == "GET" else OutcomeUnknown
        return kind(f"Proxmox at {host} {problem} ({method} {path}).")

    def _untrusted(self, error: Exception) -> str:
        host = urlsplit(self._settings.url).netloc
        if self._settings.fingerprint:
            return f"The certificate of {host} has another fingerprint than PROXMOX_FINGERPRINT. Was it renewed?"
        if "doesn't match" in str(error) or "not valid for" in str(error):
            return f"The certificate of {host} is for another name. Use that name in PROXMOX_URL."
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return (
                f"The certificate of {host} is not trusted. Set PROXMOX_CA_FILE to its authority (on a node:"
                " /etc/pve/pve-root-ca.pem), or PROXMOX_FINGERPRINT to its fingerprint."
            )
        return f"TLS with {host} failed: {str(error)[-200:]}"

    def _api(self) -> ProxmoxAPI:
        if not hasattr(self._local, "api"):
            self._local.api = self._connect()
        return self._local.api

    def _connect(self) -> ProxmoxAPI:
        settings = self._settings
        if settings.ca_file and not Path(settings.ca_file).is_file():
            raise NotTrusted(f"PROXMOX_CA_FILE: there is no file {settings.ca_file}.")
        address = urlsplit(settings.url)
        user, _, token = settings.token_id.partition("!")
        try:
            api = ProxmoxAPI(
                f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname,
                port=address.port or 8006,
                path_prefix=address.path.strip("/") or None,
                user=user,
                token_name=token,
                token_value=settings.token_secret.strip(),
                # With a fingerprint, the adapter below verifies the certificate instead.
                verify_ssl=False if settings.fingerprint else settings.ca_file or True,
                timeout=(_CONNECT_S, settings.call_timeout_s),
            )
        except ValueError as error:
            raise ProviderRefused("PROXMOX_URL is not a valid address.") from error
        session = api._store["session"]
        # Ignore proxies and certificates of the environment, and never send the token to a redirect target.
        session.trust_env = False
        session.max_redirects = 0
        # pveproxy closes idle connections after seconds. A create at that moment would have no known outcome.
        session.headers["Connection"] = "close"
        if settings.fingerprint:
            session.mount("https://", _Pinned(settings.fingerprint))
        return api


def _path_text(path: tuple[str | int, ...]) -> str:
    return "/" + "/".join(map(str, path))
