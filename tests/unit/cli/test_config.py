from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.cli.config import DEFAULT_URL, Config, config_path, read_config
from myctobot.cli.errors import UsageError

KEY = "mctb_canary_of_the_client"


def written(path: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    path.write_text(text)
    path.chmod(mode)
    return {"MYCTOBOT_CONFIG": str(path)}


def found(config: Config) -> tuple[str, str]:
    return config.url, config.api_key


def test_the_environment_is_enough(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "MYCTOBOT_URL": "https://there.example/", "MYCTOBOT_API_KEY": KEY}
    assert found(read_config(environ)) == ("https://there.example", KEY)


def test_the_default_url_is_that_of_make_up(tmp_path: Path) -> None:
    assert read_config({"HOME": str(tmp_path), "MYCTOBOT_API_KEY": KEY}).url == DEFAULT_URL


def test_the_url_of_the_api_is_accepted_too(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "MYCTOBOT_URL": "https://there.example/bot/api/v1/", "MYCTOBOT_API_KEY": KEY}
    assert read_config(environ).url == "https://there.example/bot"


@pytest.mark.parametrize("key", [f'api_key = "{KEY}"', 'api_key_file = "key"'])
def test_a_file_is_enough_and_its_key_file_is_relative_to_it(tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    environ = written(tmp_path / "config.toml", f'url = "https://there.example"\n{key}\n')
    assert found(read_config(environ)) == ("https://there.example", KEY)


def test_a_key_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    environ = {"HOME": str(tmp_path), "MYCTOBOT_API_KEY_FILE": str(tmp_path / "key")}
    config = read_config(environ)
    assert config.api_key == KEY
    assert str(tmp_path / "key") in config.key_source


def test_the_option_precedes_the_environment_and_the_environment_the_file(tmp_path: Path) -> None:
    environ = written(tmp_path / "config.toml", f'url = "http://file"\napi_key = "{KEY}"\n')
    assert found(read_config(environ)) == ("http://file", KEY)
    environ |= {"MYCTOBOT_URL": "http://environment", "MYCTOBOT_API_KEY": "mctb_other"}
    assert found(read_config(environ)) == ("http://environment", "mctb_other")
    assert read_config(environ, "http://option").url == "http://option"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"MYCTOBOT_CONFIG": "/a/b.toml", "XDG_CONFIG_HOME": "/x"}, "/a/b.toml"),
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/home/ada"}, "/x/myctobot/config.toml"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/home/ada"}, "/home/ada/.config/myctobot/config.toml"),
        ({"HOME": "/home/ada"}, "/home/ada/.config/myctobot/config.toml"),
    ],
)
def test_the_path_of_the_file(environ: dict[str, str], expected: str) -> None:
    assert config_path(environ) == Path(expected)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "MYCTOBOT_API_KEY"),
        ({"MYCTOBOT_URL": "there:8000", "MYCTOBOT_API_KEY": KEY}, "MYCTOBOT_URL: it must be a URL"),
        ({"MYCTOBOT_URL": "ftp://there", "MYCTOBOT_API_KEY": KEY}, "MYCTOBOT_URL: it must be a URL"),
        ({"MYCTOBOT_URL": "http://", "MYCTOBOT_API_KEY": KEY}, "MYCTOBOT_URL: it must be a URL"),
        ({"MYCTOBOT_URL": "http://there:port", "MYCTOBOT_API_KEY": KEY}, "MYCTOBOT_URL: this is not a valid URL"),
        ({"MYCTOBOT_URL": "http://[::1", "MYCTOBOT_API_KEY": KEY}, "MYCTOBOT_URL: this is not a valid URL"),
        ({"MYCTOBOT_URL": "http://me:pw@there", "MYCTOBOT_API_KEY": KEY}, "a password"),
        ({"MYCTOBOT_URL": "http://there?key=1", "MYCTOBOT_API_KEY": KEY}, "a query"),
        ({"MYCTOBOT_API_KEY": "two words"}, "MYCTOBOT_API_KEY: this is not an API key"),
        ({"MYCTOBOT_API_KEY": "mctb_ü"}, "MYCTOBOT_API_KEY: this is not an API key"),
        ({"MYCTOBOT_API_KEY": KEY, "MYCTOBOT_API_KEY_FILE": "/x"}, "both set"),
        ({"MYCTOBOT_API_KEY_FILE": "/nonexistent/key"}, "MYCTOBOT_API_KEY_FILE names /nonexistent/key"),
        ({"MYCTOBOT_API_KEY_FILE": "/dev/null"}, "MYCTOBOT_API_KEY_FILE: /dev/null: this is not an API key"),
        ({"MYCTOBOT_API_KEY_FILE": "/dev/zero"}, "/dev/zero is larger than"),
        ({"MYCTOBOT_CONFIG": "/nonexistent/config.toml"}, "MYCTOBOT_CONFIG names /nonexistent/config.toml"),
    ],
)
def test_a_missing_or_invalid_value_is_named(tmp_path: Path, environ: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_config({"HOME": str(tmp_path), **environ})
    assert named in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            'url = "http://there"\ntoken = "x"\ntenant = "y"',
            "unknown settings: tenant, token. Use only api_key, api_key_file, url",
        ),
        ("url = 5", "url must be text"),
        ('api_key = ""', "api_key must be text in quotes and not empty"),
        ('api_key = "a"\napi_key_file = "b"', "keep one"),
        ("url = ", "not valid TOML"),
        ('[server]\nurl = "http://there"', "unknown settings: server"),
    ],
)
def test_an_invalid_file_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=str(tmp_path / "config.toml")) as refused:
        read_config(written(tmp_path / "config.toml", text))
    assert named in str(refused.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        read_config({"MYCTOBOT_CONFIG": str(tmp_path / "config.toml")})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_with_a_key_that_others_can_read_is_refused_with_advice(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "config.toml"
    environ = written(path, f'api_key = "{KEY}"', mode)
    with pytest.raises(UsageError, match=f"chmod 600 {path}") as refused:
        read_config(environ)
    assert KEY not in str(refused.value)
    path.chmod(0o600)
    assert read_config(environ).api_key == KEY


def test_others_may_read_a_file_without_a_key(tmp_path: Path) -> None:
    environ = written(tmp_path / "config.toml", 'url = "http://there"', mode=0o644)
    assert read_config({**environ, "MYCTOBOT_API_KEY": KEY}).url == "http://there"


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    assert KEY not in repr(read_config({"HOME": str(tmp_path), "MYCTOBOT_API_KEY": KEY}))
