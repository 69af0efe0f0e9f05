from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from myctobot.stack.errors import AlreadyRunning, StackError
from myctobot.stack.home import GeneratedSecrets, Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once(home: Home) -> None:
    assert GeneratedSecrets.load_or_create(home.root) == GeneratedSecrets.load_or_create(home.root)


def test_secrets_are_for_the_owner_alone(home: Home) -> None:
    GeneratedSecrets.load_or_create(home.root)
    assert mode(home.root / "secrets.json") == 0o600


def test_secrets_do_not_show_in_repr(home: Home) -> None:
    made = GeneratedSecrets.load_or_create(home.root)
    assert made.redis_password not in repr(made)


def test_a_secret_that_a_new_release_needs_is_added(home: Home) -> None:
    before = GeneratedSecrets.load_or_create(home.root)
    path = home.root / "secrets.json"
    kept = json.loads(path.read_text())
    del kept["admin_password"]
    path.write_text(json.dumps(kept))
    after = GeneratedSecrets.load_or_create(home.root)
    assert after.admin_password
    assert after.secrets_keys == before.secrets_keys


@pytest.mark.parametrize("content", ["", "{", "[]", '{"secret_key": 1}'])
def test_damaged_secrets_are_not_replaced(home: Home, content: str) -> None:
    path = home.root / "secrets.json"
    path.write_text(content)
    with pytest.raises(StackError, match=r"secrets\.json is damaged"):
        GeneratedSecrets.load_or_create(home.root)
    assert path.read_text() == content


def test_a_second_one_hears_where_the_first_is(home: Home) -> None:
    home.status.write_text(json.dumps({"pid": 77, "urls": {"web": "http://127.0.0.1:1"}}))
    with home.lock(), pytest.raises(AlreadyRunning, match=r"pid 77.*http://127\.0\.0\.1:1") as refused, home.lock():
        pass
    # Nothing failed: the caller has its stack.
    assert refused.value.exit_code == 0
    assert "make login" in refused.value.message


def test_the_lock_can_be_taken_again(home: Home) -> None:
    with home.lock():
        pass
    with home.lock():
        pass


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"MYCTOBOT_HOME .*file/home.* cannot be used"):
        Home(tmp_path / "file" / "home").prepare()


def test_other_users_cannot_read_the_home(home: Home) -> None:
    assert {mode(home.log), mode(home.run), mode(home.tmp)} == {0o700}
