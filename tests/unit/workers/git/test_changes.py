from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.git.changes import fit_patch, parse_shortstat


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 3 files changed, 10 insertions(+), 2 deletions(-)\n", (3, 10, 2)),
        (" 1 file changed, 1 insertion(+)\n", (1, 1, 0)),
        (" 1 file changed, 1 deletion(-)\n", (1, 0, 1)),
        ("", (0, 0, 0)),
    ],
)
def test_totals_are_read(text: str, expected: tuple[int, int, int]) -> None:
    assert parse_shortstat(text) == expected


def test_a_patch_that_fits_stays() -> None:
    assert fit_patch("+a\n+b\n", 100) == ("+a\n+b\n", False)


@given(st.text(max_size=400), st.integers(min_value=60, max_value=300))
def test_a_patch_never_exceeds_its_limit(patch: str, limit: int) -> None:
    kept, cut = fit_patch(patch, limit)
    assert len(json.dumps(kept)) - 2 <= limit
    assert cut == (kept != patch)


def test_a_patch_is_cut_at_the_end_of_a_line() -> None:
    kept, cut = fit_patch("+line\n" * 100, 100)
    assert cut
    assert kept.endswith("+line\n[the patch continues]\n")
