from __future__ import annotations

import stat
from ipaddress import ip_network
from pathlib import Path

import pytest

from workers.enroll import ConfigLocation, EnrolmentError, Invitation, check_config, find_invitation, read_environ

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
        # All values come from one environment: a token never goes to an address from another one.
        ({"MYCTOBOT_CONTROL_URL": "https://elsewhere.example"}, OURS, ASKED),
        (OURS, {**OURS, "MYCTOBOT_ENROL_TOKEN": "other"}, ASKED),
        ({}, {}, None),
        ({**OURS, "MYCTOBOT_ENROL_TOKEN": ""}, {}, None),
    ],
)
def test_the_invitation_is_in_one_environment(
    own: dict[str, str], first: dict[str, str], expected: Invitation | None
) -> None:
    assert find_invitation(own, first) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MYCTOBOT_CONTROL_URL", ""),
        ("MYCTOBOT_CONTROL_URL", "control.example"),
        ("MYCTOBOT_CONTROL_URL", "file:///etc"),
        ("MYCTOBOT_SHARD", ""),
        ("MYCTOBOT_SHARD", "../shard"),
        ("MYCTOBOT_ENROL_TOKEN", "a\nb"),
        ("MYCTOBOT_PLAIN_NETWORKS", "control.example"),
    ],
)
def test_a_missing_or_invalid_variable_is_named_without_the_token(name: str, value: str) -> None:
    with pytest.raises(EnrolmentError, match=name) as caught:
        find_invitation({**OURS, name: value}, {})
    assert OURS["MYCTOBOT_ENROL_TOKEN"] not in str(caught.value)


def test_an_invitation_may_list_networks_for_links_without_tls() -> None:
    found = find_invitation({**OURS, "MYCTOBOT_PLAIN_NETWORKS": "10.9.0.0/24,fd00::1"}, {})
    assert found is not None
    assert found.plain_networks == (ip_network("10.9.0.0/24"), ip_network("fd00::1"))


def test_the_token_is_not_in_the_repr() -> None:
    assert ASKED.token not in repr(ASKED)


def test_an_environment_with_any_bytes_is_read(tmp_path: Path) -> None:
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
def test_an_invalid_configuration_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(EnrolmentError, match=words):
        check_config(CONFIG | change, ASKED)


def test_saved_files_are_readable_by_their_owner_only_and_no_other_file_is_left(tmp_path: Path) -> None:
    location = ConfigLocation(tmp_path / "etc" / "config.json")
    location.save(CONFIG, ASKED.digest)
    files = sorted((tmp_path / "etc").iterdir())
    assert [file.name for file in files] == ["config.json", "config.json.token"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert ASKED.token not in files[1].read_text()


def test_a_digest_without_a_configuration_is_ignored(tmp_path: Path) -> None:
    location = ConfigLocation(tmp_path / "config.json")
    location.save(CONFIG, ASKED.digest)
    assert location.is_enrolled_with(ASKED.digest)
    assert not location.is_enrolled_with("other")
    (tmp_path / "config.json").unlink()
    assert not location.is_enrolled_with(ASKED.digest)
