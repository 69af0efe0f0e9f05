"""The stand-in refuses the requests that Proxmox refuses."""

from __future__ import annotations

import pytest

from tests.fixtures.proxmox import lives, schema
from tests.fixtures.proxmox.calls import CALLS
from tests.fixtures.proxmox.errors import Forbidden
from tests.fixtures.proxmox.rights import Rights, check_changes

GOOD = {"vmid": "104", "ostemplate": "local:vztmpl/x.tar.zst", "net0": "name=eth0,bridge=vmbr1"}


def mistakes(**params: str) -> dict[str, str]:
    call = schema.find("POST", "/nodes/pve1/lxc")
    assert call is not None
    return schema.mistakes(
        call, {**GOOD, "node": "pve1", **{name.replace("_", "-"): it for name, it in params.items()}}
    )


def test_every_call_that_it_knows_is_in_the_schema() -> None:
    assert lives.create in CALLS.values()
    assert [call for call in CALLS if call[0] not in schema.paths().get(call[1], {})] == []


def test_a_good_call_passes() -> None:
    assert mistakes() == {}


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"vmid": "99"}, "vmid"),
        ({"vmid": "many"}, "vmid"),
        ({"memory": "1.5"}, "memory"),
        ({"cores": "0"}, "cores"),
        ({"unprivileged": "maybe"}, "unprivileged"),
        ({"hostname": "a_b"}, "hostname"),
        ({"hostname": "a" * 300}, "hostname"),
        ({"arch": "z80"}, "arch"),
        ({"features": "nesting=1,root=1"}, "features"),
        ({"features": "nesting=perhaps"}, "features"),
        ({"net0": "bridge=vmbr1"}, "net0"),
        ({"net0": "name=eth0,name=eth1"}, "net0"),
        ({"net1": "name=eth0,ip=everywhere"}, "net1"),
        ({"tags": "a;b c/d"}, "tags"),
        ({"env": "A=1\0B"}, "env"),
        ({"pool": "a b"}, "pool"),
        ({"unique": "1"}, "unique"),
    ],
)
def test_a_wrong_parameter_is_named(params: dict[str, str], named: str) -> None:
    assert list(mistakes(**params)) == [named]


def test_required_fields_are_checked() -> None:
    call = schema.find("POST", "/nodes/pve1/lxc")
    assert call is not None
    assert set(schema.mistakes(call, {"node": "pve1"})) == {"vmid", "ostemplate"}


@pytest.mark.parametrize(("method", "path"), [("GET", "/nodes/pve1/lxc/100/exec"), ("PATCH", "/version")])
def test_unknown_paths_of_proxmox_are_refused(method: str, path: str) -> None:
    assert schema.find(method, path) is None


def test_a_token_has_no_more_than_its_user() -> None:
    rights = Rights(user={"/pool/x": {"VM.Audit"}}, token={"/": {"VM.Audit", "VM.Allocate"}}, pool_of={100: "x"})
    assert rights.on("/vms/100") == {"VM.Audit"}
    assert rights.on("/vms/101") == set()


@pytest.mark.parametrize("change", [{"features": "keyctl=1"}, {"hookscript": "local:snippets/x"}, {"dev0": "/dev/kvm"}])
def test_changes_reserved_for_root_are_forbidden(change: dict[str, str]) -> None:
    rights = Rights(pool_of={100: "shards"})
    with pytest.raises(Forbidden, match="root@pam"):
        check_changes(rights, 100, None, {}, change)


def test_tags_need_a_right_on_the_container_itself() -> None:
    with pytest.raises(Forbidden, match=r"/vms/100, VM\.Config\.Options"):
        check_changes(Rights(), 100, "shards", {}, {"tags": "x"})
    check_changes(Rights(pool_of={100: "shards"}), 100, "shards", {}, {"tags": "x"})
