from __future__ import annotations

import pytest

from shards.lifecycle.states import ALERTS, GONE, MOVES, PROVISIONING, may_move
from shards.models import ShardState


def test_the_table_has_every_state_and_no_other() -> None:
    states = {state.value for state in ShardState}
    assert set(MOVES) == states
    assert set().union(*MOVES.values()) == states


@pytest.mark.parametrize("state", MOVES)
def test_staying_is_no_transition_and_every_state_can_be_destroyed(state: str) -> None:
    assert not may_move(state, state)
    assert state == GONE or may_move(state, GONE)


def test_every_existing_container_can_be_created_again() -> None:
    assert all(may_move(state, PROVISIONING) for state in MOVES if state != PROVISIONING)


@pytest.mark.parametrize(
    ("state", "to"),
    [
        ("ready", "lost"),
        ("ready", "requested"),
        ("requested", "suspect"),
        ("requested", "lost"),
        ("lost", "ready"),
        ("gone", "ready"),
        ("gone", "suspect"),
        ("gone", "draining"),
        ("provisioning", "suspect"),
    ],
)
def test_impossible_transitions(state: str, to: str) -> None:
    assert not may_move(state, to)


def test_an_alert_is_of_a_move_that_there_is() -> None:
    assert all(may_move(*move) for move in ALERTS)
