"""References of containers, and markers that prove ownership."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from shards.providers.errors import ProviderError
from shards.providers.proxmox.naming import Marker, Ref

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OURS = Marker("myctobot", 104, "0123456789abcdef", "shard-1", AT)


def test_a_reference_reads_back() -> None:
    assert Ref.of(str(Ref("pve1", 104, "0123456789abcdef"))) == Ref("pve1", 104, "0123456789abcdef")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "104",
        "pve1/104",
        "pve1/104/0123456789ABCDEF",
        "pve1/104/0123456789abcdef\n",
        "../104/0123456789abcdef",
        "pve1/99/0123456789abcdef",
        "pve1/١٠٤/0123456789abcdef",
        "pve-/104/0123456789abcdef",
    ],
)
def test_anything_else_is_no_reference(text: str) -> None:
    with pytest.raises(ProviderError, match="is not a reference"):
        Ref.of(text)


def test_a_marker_is_found_among_what_people_wrote() -> None:
    assert Marker.in_description(f"# Shard\n{OURS}\nDo not touch.\n", "myctobot", 104) == OURS


@pytest.mark.parametrize(
    ("description", "owner", "vmid"),
    [
        (str(OURS), "staging", 104),
        (str(OURS), "myctobot", 105),
        (f"{OURS}\n{OURS}", "myctobot", 104),
        (f"see {OURS}", "myctobot", 104),
        (f"{OURS} and more", "myctobot", 104),
        (str(OURS).replace("instance=0", "instance=g"), "myctobot", 104),
        (None, "myctobot", 104),
        (12, "myctobot", 104),
    ],
)
def test_an_inexact_marker_is_not_ours(description: object, owner: str, vmid: int) -> None:
    assert Marker.in_description(description, owner, vmid) is None


@given(some.text())
def test_no_text_that_people_write_breaks_it(description: str) -> None:
    assert Marker.in_description(description, "myctobot", 104) is None
