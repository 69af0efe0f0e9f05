"""Option ``--faults-seed``, which repeats the plan of a run of random faults."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults-seed", type=int, metavar="N", help="seed of the minute of random faults, instead of that of the day"
    )
