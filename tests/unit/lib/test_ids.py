from __future__ import annotations

from myctobot.lib.ids import public_id


def test_ids_are_short_and_their_own() -> None:
    made = {public_id("job") for _ in range(1000)}
    assert len(made) == 1000
    assert all(one.startswith("job_") and one[4:].isalnum() and one.islower() for one in made)
