"""Variables of the environment: what is nonsense is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from myctobot.env import (
    contacts,
    direct_addresses,
    endpoint,
    env,
    expiry,
    folders,
    proxy_url,
    schemes,
    webhook_secret,
    whole_number,
)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("7", 7), (" 90 ", 90), (None, 5)])
def test_whole_numbers(monkeypatch: pytest.MonkeyPatch, text: str | None, value: int) -> None:
    if text is not None:
        monkeypatch.setenv("SOME_DAYS", text)
    assert whole_number("SOME_DAYS", 5, minimum=0) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5", "ten", "\u0663", "1e3", "4"])
def test_what_is_none_or_too_small(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_BYTES", text)
    with pytest.raises(ImproperlyConfigured, match=r"SOME_BYTES is .*at least 5"):
        whole_number("SOME_BYTES", 100, minimum=5)


@pytest.mark.parametrize("text", ["", "https://hooks.example/a/?b=c", "http://10.0.0.7:8065/hooks/x"])
def test_an_endpoint_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_HOOK", text)
    assert endpoint("SOME_HOOK") == text


def test_an_endpoint_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_HOOK", "ftp://canary")
    with pytest.raises(ImproperlyConfigured, match=r"SOME_HOOK must start with") as refused:
        endpoint("SOME_HOOK")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_a_webhooks_secret(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_SECRET", text)
    assert webhook_secret("SOME_SECRET") == text


@pytest.mark.parametrize("text", ["whsec_canary!", "canary canary", "abc"])
def test_a_webhooks_secret_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_SECRET", text)
    with pytest.raises(ImproperlyConfigured, match="SOME_SECRET is not base64") as refused:
        webhook_secret("SOME_SECRET")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, []), ("", []), ("/srv/repos", ["/srv/repos"]), (" /srv/repos/ ,/no/such", ["/srv/repos", "/no/such"])],
)
def test_folders(monkeypatch: pytest.MonkeyPatch, text: str | None, value: list[str]) -> None:
    if text is not None:
        monkeypatch.setenv("SOME_ROOTS", text)
    assert folders("SOME_ROOTS") == value


@pytest.mark.parametrize("text", ["/", "srv/repos", "~/repos", "/srv/../etc", "/srv//repos", "/srv/.", "/srv/a,b"])
def test_a_folder_that_is_no_plain_absolute_path_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_ROOTS", text)
    with pytest.raises(ImproperlyConfigured, match=r"SOME_ROOTS contains .* write absolute paths of folders below /"):
        folders("SOME_ROOTS")


def test_a_folder_behind_a_link_is_refused_with_the_real_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("SOME_ROOTS", f"{tmp_path}/link/repos")
    with pytest.raises(ImproperlyConfigured, match=f"symbolic link; write {tmp_path}/real/repos"):
        folders("SOME_ROOTS")


def test_the_scheme_file_needs_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert schemes("SOME_SCHEMES", ["/srv/repos"]) == schemes("SOME_SCHEMES", []) == ["https", "ssh"]
    monkeypatch.setenv("SOME_SCHEMES", "https,file")
    assert schemes("SOME_SCHEMES", ["/srv/repos"]) == ["https", "file"]
    with pytest.raises(ImproperlyConfigured, match="SOME_SCHEMES contains file; set REPO_FILE_ROOTS"):
        schemes("SOME_SCHEMES", [])


def test_contacts_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert contacts("SOME_CONTACT") == []
    monkeypatch.setenv("SOME_CONTACT", "mailto:security@example.org, https://example.org/report")
    assert contacts("SOME_CONTACT") == ["mailto:security@example.org", "https://example.org/report"]


@pytest.mark.parametrize(
    "text", ["security@example.org", "http://example.org", "mailto:a b", "mailto:a\nExpires: 1", "tel:"]
)
def test_what_is_no_contact(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_CONTACT", text)
    with pytest.raises(ImproperlyConfigured, match="SOME_CONTACT contains"):
        contacts("SOME_CONTACT")


def test_an_expiry_is_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    assert expiry("SOME_END") is None
    monkeypatch.setenv("SOME_END", "2027-06-30")
    assert expiry("SOME_END") == datetime(2027, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "tomorrow", "2027-13-01"])
def test_what_is_no_expiry(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_END", text)
    with pytest.raises(ImproperlyConfigured, match=r"SOME_END is .*2027-06-30"):
        expiry("SOME_END", needed_by="SOME_CONTACT")


def test_addresses_that_agents_reach_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert direct_addresses("SOME_ADDRESSES") == []
    monkeypatch.setenv("SOME_ADDRESSES", "10.0.0.5:5432, [FD00::2]:443,10.0.0.5:5432")
    assert direct_addresses("SOME_ADDRESSES") == ["10.0.0.5:5432", "[fd00::2]:443"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("db.example:5432", "SOME_ADDRESSES: 'db.example:5432' is not an address with a port"),
        ("169.254.169.254:80", "SOME_ADDRESSES: '169.254.169.254:80' is not the address of one other machine"),
        (",".join(f"10.0.0.{at}:80" for at in range(65)), "SOME_ADDRESSES has 65 addresses; give at most 64"),
    ],
)
def test_other_addresses_are_refused(monkeypatch: pytest.MonkeyPatch, text: str, reason: str) -> None:
    monkeypatch.setenv("SOME_ADDRESSES", text)
    with pytest.raises(ImproperlyConfigured, match=reason):
        direct_addresses("SOME_ADDRESSES")


@pytest.mark.parametrize(("text", "value"), [("", ""), ("http://10.0.0.1:3128/", "http://10.0.0.1:3128")])
def test_a_proxy(monkeypatch: pytest.MonkeyPatch, text: str, value: str) -> None:
    monkeypatch.setenv("SOME_PROXY", text)
    assert proxy_url("SOME_PROXY") == value


@pytest.mark.parametrize("text", ["socks5://x:1", "http://me:canary@x:1", "http://x:1/path", "x:1", "http://"])
def test_another_proxy_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_PROXY", text)
    with pytest.raises(ImproperlyConfigured, match="SOME_PROXY must be only a proxy's address") as refused:
        proxy_url("SOME_PROXY")
    assert "canary" not in str(refused.value)


def test_a_value_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-the-file\n")
    monkeypatch.setenv("SOME_TOKEN_FILE", str(tmp_path / "token"))
    assert env.str("SOME_TOKEN") == "from-the-file"


def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_TOKEN_FILE", str(tmp_path / "missing"))
    with pytest.raises(ImproperlyConfigured, match=r"SOME_TOKEN_FILE: .*missing is no readable text file"):
        env.str("SOME_TOKEN", default="")
