"""Threads for short calls: what they keep, what they give back, and whose mistakes they survive."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from django.db import OperationalError, connection

from myctobot.web.threads import RequestThreads

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def has_connection() -> bool:
    return connection.connection is not None


async def test_work_that_waits_finds_the_connection_of_the_work_before(anyio_backend: str) -> None:
    one, begun, goes_on = RequestThreads(1), threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        goes_on.wait(10)
        return backend()

    before = asyncio.create_task(one.run(first))
    await asyncio.to_thread(begun.wait, 10)
    after = asyncio.create_task(one.run(has_connection))
    await asyncio.sleep(0)
    goes_on.set()
    assert await before
    assert await after


async def test_who_has_nothing_to_do_gives_the_connection_back(anyio_backend: str) -> None:
    one = RequestThreads(1)
    assert await one.run(backend)
    await asyncio.sleep(0.2)
    assert not await one.run(has_connection)


async def test_an_error_reaches_only_its_caller(anyio_backend: str) -> None:
    one = RequestThreads(1)

    def broken() -> None:
        raise ValueError("mine")

    results = await asyncio.gather(one.run(broken), one.run(backend), return_exceptions=True)
    assert isinstance(results[0], ValueError)
    assert isinstance(results[1], int)


async def test_a_lost_connection_is_not_used_again(anyio_backend: str) -> None:
    one = RequestThreads(1)

    def lose() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    results = await asyncio.gather(one.run(lose), one.run(backend), return_exceptions=True)
    assert isinstance(results[0], OperationalError)
    assert isinstance(results[1], int)


async def test_a_client_that_disconnected_delays_no_other_client(anyio_backend: str) -> None:
    one, goes_on = RequestThreads(1), threading.Event()
    done: list[str] = []
    first = asyncio.create_task(one.run(goes_on.wait, 10))
    gone = asyncio.create_task(one.run(done.append, "gone"))
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.sleep(0)
    began = time.monotonic()
    goes_on.set()
    await first
    await one.run(done.append, "next")
    assert done == ["next"]
    assert time.monotonic() - began < 5


async def test_threads_with_a_pool_leave_the_common_one_alone(anyio_backend: str) -> None:
    own, common = RequestThreads(1, pool="of_this_test"), RequestThreads(1)

    def pool_of() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return id(connection.pool)  # type: ignore[attr-defined]  # PostgreSQL only

    def size_of() -> tuple[int, str]:
        return connection.pool.max_size, str(connection.settings_dict["NAME"])  # type: ignore[attr-defined]  # see above

    assert await own.run(pool_of) != await common.run(pool_of)
    (size, name), (_, common_name) = await own.run(size_of), await common.run(size_of)
    assert (size, name) == (1, common_name)
    await own.run(lambda: connection.close_pool())  # type: ignore[attr-defined]  # see above
