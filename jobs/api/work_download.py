"""Download of a file of kept work, part by part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from jobs.kept_work.storage import read_part
from jobs.streaming.reader import in_reader


async def download(work_pk: int, file: str) -> AsyncIterator[bytes]:
    """Yield the parts of a file in their order; only one is in memory."""
    number = 0
    while (data := await in_reader(partial(read_part, work_pk, file, number))) is not None:
        yield data
        number += 1
