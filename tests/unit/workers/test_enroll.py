from __future__ import annotations

import stat
from pathlib import Path

import pytest

from workers.enroll import Invitation, Misplaced, Place, check_config, invitation, read_environ

OURS = {
    "MYCTOBOT_CONTROL_URL": "https://control.example/",
    "MYCTOBOT_SHARD": "shard-1",
    "MYCTOBOT_ENROL_TOKEN": "token-0123456789",
}
ASKED = Invitation("https://control.example", "shard-1", "token-0123456789")
CONFIG = {
    "shard_id": "shard-1",
    "control_url": "https://control.example",
    "broker_url": "rediss://:x@broker.example/0",
    "shard_key": "mcts_x",
    "capabilities": ["git"],
}


@pytest.mark.parametrize(
    ("own", "first", "expected"),
    [
        (OURS, {}, ASKED),
        ({}, OURS, ASKED),
        # One environment as a whole: a token never goes to the address that another one names.
        ({"MYCTOBOT_CONTROL_URL": "https://elsewhere.example"}, OURS, ASKED),
        (OURS, {**OURS, "MYCTOBOT_ENROL_TOKEN": "other"}, ASKED),
        ({}, {}, None),
        ({**OURS, "MYCTOBOT_ENROL_TOKEN": ""}, {}, None),
    ],
)
def test_the_invitation_is_in_one_environment(
    own: dict[str, str], first: dict[str, str], expected: Invitation | None
) -> None:
    assert invitation(own, first) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MYCTOBOT_CONTROL_URL", ""),
        ("MYCTOBOT_CONTROL_URL", "control.example"),
        ("MYCTOBOT_CONTROL_URL", "file:///etc"),
        ("MYCTOBOT_SHARD", ""),
        ("MYCTOBOT_SHARD", "../shard"),
        ("MYCTOBOT_ENROL_TOKEN", "a\nb"),
    ],
)
def test_what_is_missing_or_no_use_is_named_without_the_token(name: str, value: str) -> None:
    with pytest.raises(Misplaced, match=name) as caught:
        invitation({**OURS, name: value}, {})
    assert OURS["MYCTOBOT_ENROL_TOKEN"] not in str(caught.value)


def test_the_token_is_not_in_the_repr() -> None:
    assert ASKED.token not in repr(ASKED)


def test_the_first_process_environment_is_read_whatever_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "environ"
    file.write_bytes(b"A=1\0MYCTOBOT_SHARD=x=y\0\0odd\0\xff\xfe=\xff\0")
    assert read_environ(file)["MYCTOBOT_SHARD"] == "x=y"
    assert read_environ(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shard_id": "shard-2"}, "for the shard 'shard-2'"),
        ({"shard_key": None}, "shard_key"),
        ({"colour": "red"}, "colour is not a setting"),
        ({"broker_url": "http://x"}, "broker_url"),
    ],
)
def test_a_configuration_that_would_not_do_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(Misplaced, match=words):
        check_config(CONFIG | change, ASKED)


def test_what_is_kept_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    place = Place(tmp_path / "etc" / "config.json")
    place.keep(CONFIG, ASKED.digest)
    files = sorted((tmp_path / "etc").iterdir())
    assert [file.name for file in files] == ["config.json", "config.json.token"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert ASKED.token not in files[1].read_text()


def test_a_digest_without_a_configuration_means_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "config.json")
    place.keep(CONFIG, ASKED.digest)
    assert place.is_enrolled_with(ASKED.digest)
    assert not place.is_enrolled_with("other")
    (tmp_path / "config.json").unlink()
    assert not place.is_enrolled_with(ASKED.digest)
