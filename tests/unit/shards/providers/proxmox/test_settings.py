"""Invalid settings and missing rights are named before any request."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.conf import settings as django_settings

from shards.providers.proxmox.permissions import excessive, missing, required
from shards.providers.proxmox.settings import Egress, Settings, egress_of, mistakes
from tests.unit.shards.providers.proxmox.test_parameters import SETTINGS


def test_good_settings_have_no_mistakes() -> None:
    assert mistakes(SETTINGS) == []


def test_missing_settings_are_named() -> None:
    said = " ".join(mistakes(Settings.of(django_settings.PROXMOX)))
    for name in ("URL", "TOKEN_ID", "TOKEN_SECRET", "NODE", "STORAGE", "BRIDGE", "POOL", "TEMPLATES", "EGRESS"):
        assert f"PROXMOX_{name}" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", "http://pve.example:8006"),
        ("url", "https://root:secret@pve.example:8006"),
        ("token_id", "mctb@pve"),
        ("token_id", "root@pam!shards"),
        ("token_secret", ""),
        ("token_secret", "a\nX-Evil: 1"),
        ("fingerprint", "AA:BB"),
        ("node", "../access"),
        ("storage", "local,mp0=/etc"),
        ("bridge", "vmbr0,firewall=0"),
        ("pool", ".."),
        ("owner", "A B"),
        ("templates", {}),
        ("templates", {"general": "../../etc/passwd"}),
        ("templates", {"general": "99"}),
        ("templates", {"general": "local:backup/vzdump-lxc-100.tar.zst"}),
        ("egress", ()),
        ("egress", ("control.example:443",)),
        ("egress", ("10.0.0.2:0",)),
        ("egress", ("10.0.0.999:443",)),
        ("ssh_from", ("everybody",)),
        ("nameserver", "1.1.1.1,mp0=/etc"),
        ("ip", "10.0.0.5/24,gw=10.0.0.1"),
        ("vlan", 5000),
    ],
)
def test_a_value_that_will_not_do_is_named(name: str, value: object) -> None:
    (said,) = mistakes(replace(SETTINGS, **{name: value}))  # type: ignore[arg-type]  # wrong values on purpose
    assert f"PROXMOX_{name.upper()}" in said


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.2:443", Egress("tcp", "10.0.0.2", 443)),
        ("udp/10.0.0.2:53", Egress("udp", "10.0.0.2", 53)),
        ("[fd00::2]:443", Egress("tcp", "fd00::2", 443)),
        ("10.0.0.0/24:6380", Egress("tcp", "10.0.0.0/24", 6380)),
    ],
)
def test_a_place_to_reach_is_read(text: str, place: Egress) -> None:
    assert egress_of(text) == place


def test_the_secret_is_not_shown() -> None:
    assert "hush" not in repr(replace(SETTINGS, token_secret="hush"))


def test_rights_that_are_missing_are_named_by_path() -> None:
    wanted = required(replace(SETTINGS, templates={"general": "9000", "debian": "local:vztmpl/x.tar.zst"}))
    granted = {one.path: set(one.privileges) for one in wanted}
    assert missing(wanted, granted) == []
    assert set(granted) == {
        "/pool/shards",
        "/storage/local-zfs",
        "/storage/local",
        "/sdn/zones/localnetwork/vmbr1",
        "/vms/9000",
    }
    granted["/vms/9000"].discard("VM.Clone")
    assert missing(wanted, granted) == [
        "The token lacks VM.Clone on /vms/9000: grant it to the token and to its user (docs/proxmox.md)."
    ]


def test_rights_that_are_too_much_are_named() -> None:
    assert excessive({"/": {"Sys.Audit"}, "/pool/shards": {"VM.Audit"}}) == []
    (said,) = excessive({"/": {"Sys.Modify", "Permissions.Modify", "Sys.Audit"}})
    assert "Permissions.Modify, Sys.Modify on /" in said


def test_a_secret_from_a_file_may_end_with_a_line_break() -> None:
    assert mistakes(replace(SETTINGS, token_secret="secret\n")) == []
