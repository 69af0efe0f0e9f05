"""Viewers of jobs for tests: WebSockets on a real server in the event loop of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from jobs.models import Job


async def in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a function in a thread with its own database connection, as another process would."""

    def run() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()


@asynccontextmanager
async def socket(url: str, job: Job | str, query: str = "", **headers: str) -> AsyncIterator[ClientConnection]:
    """Open the WebSocket of a job.

    Args:
        url: address of the server, http://…
        headers: names with underscores instead of dashes.
    """
    job_id = job if isinstance(job, str) else job.public_id
    address = f"{url.replace('http', 'ws', 1)}/ws/jobs/{job_id}/{query}"
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with connect(address, additional_headers=sent, compression=None, max_size=None, proxy=None) as connected:
        yield connected


async def read(connection: ClientConnection, seconds: float = 20) -> tuple[list[dict[str, Any]], int, str]:
    """Read to the end, and return the events with the close code and reason of the server."""
    events: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(seconds):
            async for message in connection:
                events += json.loads(message)["events"]
    except ConnectionClosed:
        # The client raises for close codes other than 1000 and 1001.
        pass
    return events, connection.close_code or 0, connection.close_reason or ""


async def watch(url: str, job: Job | str, query: str = "", **headers: str) -> tuple[list[dict[str, Any]], int, str]:
    async with socket(url, job, query, **headers) as connected:
        return await read(connected)


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events if "seq" in event]


async def until(check: Callable[[], Any] | Callable[[], Awaitable[Any]], seconds: float = 10) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)
