from __future__ import annotations

import asyncio
import threading

import pytest

from myctobot.gateway.parsing import BodyParser, PermitTurns

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def settled() -> None:
    """Let every task that can continue do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_jobs_take_turns_and_each_has_one() -> None:
    turns, order = PermitTurns(2), []
    holding = asyncio.Event()

    async def work(key: str) -> None:
        await turns.acquire(key)
        order.append(key)
        await holding.wait()
        turns.release(key)

    tasks = [asyncio.create_task(work(key)) for key in ("a", "a", "a", "b", "c", "c")]
    await settled()
    assert order == ["a", "b"]
    holding.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "a", "c", "a"]


async def test_a_cancelled_wait_passes_its_turn_on() -> None:
    turns = PermitTurns(1)
    await turns.acquire("a")
    waiting = [asyncio.create_task(turns.acquire(key)) for key in ("b", "c")]
    await settled()
    waiting[0].cancel()
    turns.release("a")
    await waiting[1]
    turns.release("c")
    await turns.acquire("d")


async def test_a_turn_that_comes_with_the_cancellation_is_given_back() -> None:
    turns = PermitTurns(1)
    await turns.acquire("a")
    waiting = asyncio.create_task(turns.acquire("b"))
    await settled()
    turns.release("a")
    waiting.cancel()
    await asyncio.wait({waiting})
    async with asyncio.timeout(20):
        await turns.acquire("c")


async def test_a_cancelled_call_keeps_its_turn_until_its_thread_ends() -> None:
    parser, begun, go_on = BodyParser(1), threading.Event(), threading.Event()

    def slow(body: bytes) -> bytes:
        begun.set()
        go_on.wait(20)
        raise ValueError(body)

    call = asyncio.create_task(parser.run("a", slow, b"x"))
    await asyncio.to_thread(begun.wait, 20)
    call.cancel()
    after = asyncio.create_task(parser.run("b", bytes.upper, b"y"))
    await settled()
    assert not after.done()
    go_on.set()
    assert await after == b"Y"
    parser.close()


async def test_an_error_of_the_parser_reaches_the_call() -> None:
    parser = BodyParser(1)
    with pytest.raises(ValueError, match="invalid literal"):
        await parser.run("a", int, b"no number")
    assert await parser.run("a", int, b"7") == 7
    parser.close()
