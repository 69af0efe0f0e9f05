"""Proxmox's API over ``proxmoxer``, made safe: timeouts, certificates, checked paths, errors in our words.

What has to be known of ``proxmoxer``: its HTTPS session follows redirects and reads proxies and certificates from the
environment (all switched off here), it returns a dictionary ``{"errors": …}`` for an answer that is no JSON, and of an
error it keeps the reason phrase, which is where Proxmox puts its message.
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
# A part of a path. ``proxmoxer`` joins parts as a file system would: '..' climbs, and '/' in front begins anew.
_PART = re.compile(r"(?!\.)[A-Za-z0-9._:@!-]+", re.ASCII)

Method = Literal["GET", "POST", "PUT", "DELETE"]


class _Pinned(HTTPAdapter):
    """Trusts one certificate by its fingerprint, whoever signed it."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint.replace(":", "").lower()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, assert_fingerprint=self._fingerprint)


class Client:
    """Calls of the API. Threads may share one: each gets a session of its own."""

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
        """Get a list of objects; Proxmox has no pages but for logs."""
        found = self.get(*path, **params)
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise ProviderError(f"Proxmox answered {_shown(path)} with something that is no list.")
        return found

    def record(self, *path: str | int, **params: Any) -> dict[str, Any]:
        """Get one object."""
        found = self.get(*path, **params)
        if not isinstance(found, dict):
            raise ProviderError(f"Proxmox answered {_shown(path)} with something that is no object.")
        return found

    def task(self, method: Method, *path: str | int, **params: Any) -> str:
        """Begin something that Proxmox does in the background, and return its UPID."""
        upid = self._call(method, path, params)
        if not isinstance(upid, str) or not upid.startswith("UPID:"):
            raise OutcomeUnknown(f"Proxmox answered {method} {_shown(path)} with something that is no task.")
        return upid

    def _call(self, method: Method, path: tuple[str | int, ...], params: dict[str, Any]) -> Any:
        parts = [str(part) for part in path]
        if wrong := [part for part in parts if not _PART.fullmatch(part)]:
            raise ProviderError(f"'{wrong[0][:60]}' cannot be part of an address of Proxmox's API.")
        resource = self._api()(parts)
        try:
            answer = getattr(resource, method.lower())(**params)
        except ResourceException as error:
            raise from_answer(error, method, _shown(path)) from error
        except requests.exceptions.SSLError as error:
            raise NotTrusted(self._untrusted(error)) from error
        except requests.exceptions.TooManyRedirects as error:
            raise ProviderError("PROXMOX_URL answers with a redirect, so it is not the API's address.") from error
        except requests.exceptions.InvalidURL as error:
            raise ProviderError("PROXMOX_URL is not a valid address.") from error
        except requests.exceptions.RequestException as error:
            raise self._unreachable(error, method, _shown(path)) from error
        if isinstance(answer, dict) and set(answer) == {"errors"}:
            raise ProviderError("PROXMOX_URL answers with something that is no JSON, so it is not the API's address.")
        return answer

    def _unreachable(self, error: requests.RequestException, method: str, path: str) -> ProviderUnreachable:
        host = urlsplit(self._settings.url).netloc
        if isinstance(error, requests.exceptions.ConnectTimeout) or "NewConnectionError" in repr(error):
            return ProviderUnreachable(f"Proxmox at {host} cannot be reached.")
        why = "did not answer in time" if isinstance(error, requests.exceptions.Timeout) else "broke the connection off"
        kind = ProviderUnreachable if method == "GET" else OutcomeUnknown
        return kind(f"Proxmox at {host} {why} ({method} {path}).")

    def _untrusted(self, error: Exception) -> str:
        host = urlsplit(self._settings.url).netloc
        if self._settings.fingerprint:
            return f"The certificate of {host} has another fingerprint than PROXMOX_FINGERPRINT: was it renewed?"
        if "doesn't match" in str(error) or "not valid for" in str(error):
            return f"The certificate of {host} is for another name; call Proxmox by the name that it is for."
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return (
                f"The certificate of {host} is not trusted: give its authority in PROXMOX_CA_FILE (on a node:"
                " /etc/pve/pve-root-ca.pem), or its fingerprint in PROXMOX_FINGERPRINT."
            )
        return f"TLS with {host} failed: {str(error)[-200:]}"

    def _api(self) -> ProxmoxAPI:
        if not hasattr(self._local, "api"):
            self._local.api = self._connected()
        return self._local.api

    def _connected(self) -> ProxmoxAPI:
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
                # With a fingerprint the adapter below checks instead.
                verify_ssl=False if settings.fingerprint else settings.ca_file or True,
                timeout=(_CONNECT_S, settings.call_timeout_s),
            )
        except ValueError as error:
            raise ProviderRefused("PROXMOX_URL is not a valid address.") from error
        session = api._store["session"]
        # Neither proxies nor certificates of the environment, and no redirect that the token could follow.
        session.trust_env = False
        session.max_redirects = 0
        # pveproxy drops idle connections after seconds; a create that meets that moment would have no known outcome.
        session.headers["Connection"] = "close"
        if settings.fingerprint:
            session.mount("https://", _Pinned(settings.fingerprint))
        return api


def _shown(path: tuple[str | int, ...]) -> str:
    return "/" + "/".join(map(str, path))
