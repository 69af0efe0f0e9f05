"""Client of a Git LFS server: downloads and uploads contents with the job's token.

The program git-lfs would resolve addresses itself and follow any that a server names. So the runner speaks the protocol
on its own, and checks each address as it does for git. See git-lfs's docs/api/batch.md and basic-transfers.md.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from workers.errors import JobError
from workers.git.credentials import parse_token
from workers.git.lfs import LfsObject
from workers.git.policy import GitPolicy, Resolver, locate

TIMEOUT: Final = httpx.Timeout(60.0, connect=20.0)
TRANSFER_TIMEOUT_S: Final = 600
BATCH: Final = 100
MAX_ANSWER: Final = 4 * 2**20
MAX_HEADERS: Final = 20
CHUNK: Final = 2**20
_JSON: Final = "application/vnd.git-lfs+json"


class LfsError(Exception):
    """The server did not do what was asked; the message says what it did."""


class LfsClient:
    """Client of the LFS server of one repository.

    Args:
        url: address of the repository, with https.
        token: token of the job, which only the repository's own server gets.
    """

    def __init__(self, url: str, token: str | None, policy: GitPolicy, resolver: Resolver) -> None:
        self._base = url.rstrip("/").removesuffix(".git") + ".git/info/lfs"
        self._policy, self._resolver = policy, resolver
        self._basic = None
        if token:
            parsed = parse_token(token)
            self._basic = "Basic " + base64.b64encode(f"{parsed.user}:{parsed.password}".encode()).decode()

    async def download(self, objects: Sequence[LfsObject], folder: Path) -> int:
        """Download contents into a folder, as git-lfs has it, and return the number of those that exist.

        Raises:
            LfsError, JobError: the server refused, or its address is not allowed.
        """
        found = 0
        async with self._transfer():
            for one, action in await self._batch("download", objects):
                if action is not None:
                    await self._get(one, action, one.path(folder))
                    found += 1
        return found

    async def upload(self, objects: Sequence[LfsObject], folder: Path) -> list[LfsObject]:
        """Upload the contents that the server does not have; return those that the folder does not have either.

        Raises:
            LfsError, JobError: see ``download``.
        """
        missing = []
        async with self._transfer():
            for one, actions in await self._batch("upload", objects):
                if actions is None:
                    continue
                path = one.path(folder)
                if path.exists():
                    await self._put(one, actions, path)
                else:
                    missing.append(one)
        return missing

    @asynccontextmanager
    async def _transfer(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TRANSFER_TIMEOUT_S):
                yield
        except TimeoutError as error:
            raise LfsError(f"it took longer than {TRANSFER_TIMEOUT_S} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LfsError(f"{type(error).__name__}: {str(error)[:200]}") from error

    async def _batch(
        self, operation: str, objects: Sequence[LfsObject]
    ) -> list[tuple[LfsObject, Mapping[str, Any] | None]]:
        """Ask for the actions of each object; None for one that needs none or does not exist."""
        found: list[tuple[LfsObject, Mapping[str, Any] | None]] = []
        for start in range(0, len(objects), BATCH):
            some = {one.oid: one for one in objects[start : start + BATCH]}
            asked = [{"oid": one.oid, "size": one.size} for one in some.values()]
            body = json.dumps({"operation": operation, "transfers": ["basic"], "objects": asked, "hash_algo": "sha256"})
            headers = {"Accept": _JSON, "Content-Type": _JSON}
            async with self._call("POST", f"{self._base}/objects/batch", headers, body.encode()) as answer:
                values = json.loads(await _read(answer))
            for one in values["objects"]:
                if one.get("oid") in some:
                    found.append((some[one["oid"]], one.get("actions")))
        return found

    async def _get(self, one: LfsObject, actions: Mapping[str, Any], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        digest, size = hashlib.sha256(), 0
        try:
            async with self._call("GET", *_action(actions["download"])) as answer:
                with draft.open("xb") as file:
                    async for chunk in answer.aiter_raw(CHUNK):
                        size += len(chunk)
                        if size > one.size:
                            break
                        digest.update(chunk)
                        file.write(chunk)
            if size != one.size or digest.hexdigest() != one.oid:
                raise LfsError(f"the content of {one.oid[:10]} is not the one that its pointer names")
            draft.chmod(0o444)
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)

    async def _put(self, one: LfsObject, actions: Mapping[str, Any], path: Path) -> None:
        href, headers = _action(actions["upload"])
        sized = {"Content-Type": "application/octet-stream", **headers, "Content-Length": str(one.size)}
        async with self._call("PUT", href, sized, _chunks(path)):
            pass
        if verify := actions.get("verify"):
            href, headers = _action(verify)
            body = json.dumps({"oid": one.oid, "size": one.size}).encode()
            async with self._call("POST", href, {"Accept": _JSON, "Content-Type": _JSON, **headers}, body):
                pass

    @asynccontextmanager
    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request to a checked address, and follow no redirect."""
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.username is not None:
            raise LfsError("it names an address without https")
        remote = await locate(url, self._policy, self._resolver)
        own = urlsplit(self._base)
        # A small compressed answer could need any amount of memory.
        sent = {"Host": parts.netloc, "Accept-Encoding": "identity", **headers}
        if self._basic and parts.netloc == own.netloc and not any(name.lower() == "authorization" for name in sent):
            sent["Authorization"] = self._basic
        context = ssl.create_default_context(cafile=str(self._policy.ca_file) if self._policy.ca_file else None)
        target, extensions = httpx.URL(url), {}
        if self._policy.proxy_url is None:
            target = target.copy_with(host=remote.addresses[0])
            extensions = {"sni_hostname": remote.host}
        async with (
            httpx.AsyncClient(verify=context, proxy=self._policy.proxy_url, trust_env=False, timeout=TIMEOUT) as client,
            client.stream(method, target, headers=sent, content=body, extensions=extensions) as answer,
        ):
            if not answer.is_success:
                raise LfsError(f"it answered with status {answer.status_code}")
            yield answer


def _action(action: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return address and headers of an action."""
    headers = {str(name): str(value) for name, value in list((action.get("header") or {}).items())[:MAX_HEADERS]}
    return str(action["href"]), {name: value for name, value in headers.items() if name.lower() != "host"}


async def _read(answer: httpx.Response) -> bytes:
    data = b""
    async for chunk in answer.aiter_raw(CHUNK):
        data += chunk
        if len(data) > MAX_ANSWER:
            raise LfsError("its answer is too long")
    return data


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def failed_upload(error: Exception) -> JobError:
    return JobError(
        "lfs_upload_failed",
        f"The LFS server of repo_url did not take the agent's files, so nothing was pushed: {error}. Try again later, "
        "or check what repo_token may do.",
        retryable=True,
    )
