from __future__ import annotations

import threading

from myctobot.lib.repeating_thread import RepeatingThread

STEPS = 5


def test_it_starts_once_and_repeats_its_step_after_an_error() -> None:
    threads: list[int] = []
    reached = threading.Event()

    def step() -> None:
        threads.append(threading.get_ident())
        if len(threads) == STEPS:
            reached.set()
            # The thread has no end, so it waits here for that of the process.
            threading.Event().wait()
        raise RuntimeError("an outage")

    repeated = RepeatingThread("probe", step, 0.001)
    starters = [threading.Thread(target=repeated.start) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert reached.wait(10)
    assert len(set(threads)) == 1
