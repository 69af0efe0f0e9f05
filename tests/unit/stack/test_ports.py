from __future__ import annotations

from myctobot.stack.ports import LOOPBACK, free_port, listen


def test_another_port_is_used_when_the_wanted_one_is_taken() -> None:
    with listen(0) as first:
        taken = first.getsockname()[1]
        with listen(taken) as second:
            assert second.getsockname()[1] != taken


def test_the_wanted_port_is_used_when_it_is_free() -> None:
    wanted = free_port(0)
    with listen(wanted) as listener:
        assert listener.getsockname() == (LOOPBACK, wanted)
