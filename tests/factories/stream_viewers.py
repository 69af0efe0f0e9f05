"""Viewers of a running stack that reconnect until they have the end: SSE, WebSocket and the command line client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import SSEError, aconnect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from myctobot.stack.plan import CHECKOUT
from tests.factories.fault_history import digest
from tests.stacks import bare_environment


class Viewer:
    """Viewer of a job that reconnects after the last event that it got."""

    def __init__(self, url: str, api_key: str, job_id: str) -> None:
        self.url, self.api_key, self.job_id = url, api_key, job_id
        self.seen: list[int] = []
        self.digests: list[str] = []
        self.end: dict[str, Any] | None = None
        self.connections = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    @property
    def last(self) -> int:
        return self.seen[-1] if self.seen else 0

    def take(self, event: dict[str, Any]) -> None:
        assert self.end is None, "an event after the end"
        if event["kind"] == "end":
            self.end = event["data"]
        else:
            self.seen.append(event["seq"])
            self.digests.append(digest(event))

    async def watch(self) -> None:
        while self.end is None:
            self.connections += 1
            with suppress(httpx.HTTPError, SSEError, OSError, WebSocketException, TimeoutError):
                async for event in self.connection():
                    self.take(event)
            await asyncio.sleep(0.1)

    def connection(self) -> AsyncIterator[dict[str, Any]]:
        raise AssertionError("a subclass defines the connection")


class SseViewer(Viewer):
    async def connection(self) -> AsyncIterator[dict[str, Any]]:
        resume = {"Last-Event-ID": str(self.last)} if self.seen else {}
        async with httpx.AsyncClient(headers=self.headers, timeout=20, trust_env=False) as client:
            address = f"{self.url}/api/v1/jobs/{self.job_id}/stream"
            async with aconnect_sse(client, "GET", address, headers=resume) as source:
                if source.response.status_code >= 500:
                    return
                assert source.response.status_code == 200
                async for frame in source.aiter_sse():
                    if not frame.data:
                        # The frame sets the reconnection time only, which is no event.
                        continue
                    event = json.loads(frame.data)
                    assert frame.event == event["kind"]
                    yield event


class WebSocketViewer(Viewer):
    async def connection(self) -> AsyncIterator[dict[str, Any]]:
        address = f"{self.url.replace('http', 'ws', 1)}/ws/jobs/{self.job_id}/?after={self.last}"
        async with connect(address, additional_headers=self.headers, proxy=None, open_timeout=20) as socket:
            async for message in socket:
                for event in json.loads(message)["events"]:
                    yield event
        # These codes allow another try. Any other code would hide a refusal.
        assert socket.close_code in (1000, 1001, 1006, 1012, 1013), (socket.close_code, socket.close_reason)


class CliViewer(Viewer):
    """Command line client, which is one process and reconnects itself."""

    code: int | None = None

    async def watch(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "myctobot.cli", "--json", "follow", self.job_id),
            cwd=CHECKOUT,
            env={**bare_environment(Path("/nonexistent")), "MYCTOBOT_URL": self.url, "MYCTOBOT_API_KEY": self.api_key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        counting = asyncio.create_task(self.count_connections(process.stderr))
        try:
            async for line in process.stdout:
                self.take(json.loads(line))
            self.code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await counting

    async def count_connections(self, messages: asyncio.StreamReader) -> None:
        self.connections = 1
        async for line in messages:
            self.connections += line.decode().lower().count("reconnect")
