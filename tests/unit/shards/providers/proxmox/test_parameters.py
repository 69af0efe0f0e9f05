"""Parameters of requests to Proxmox, checked against its schema."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from myctobot.errors import InvalidRequest
from shards.providers.base import ContainerSpec
from shards.providers.proxmox import parameters
from shards.providers.proxmox.naming import Marker
from shards.providers.proxmox.parameters import Parameters
from shards.providers.proxmox.settings import Settings
from tests.fixtures.proxmox import schema

SETTINGS = Settings(
    url="https://pve.example:8006",
    token_id="mctb@pve!shards",
    token_secret="secret",
    node="pve1",
    storage="local-zfs",
    bridge="vmbr1",
    pool="shards",
    templates={"general": "9000"},
    egress=("10.0.0.2:443", "[fd00::2]:443", "udp/10.0.0.0/24:53"),
    ssh_from=("10.0.0.0/24",),
)
SPEC = ContainerSpec("shard-1", "general")
MARKER = Marker("myctobot", 104, "0123456789abcdef", "shard-1", datetime(2026, 1, 2, tzinfo=UTC))

specs = some.builds(
    ContainerSpec,
    name=some.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True),
    cpus=some.floats(0.01, 64).map(lambda cpus: round(cpus, 3)),
    memory_mb=some.integers(16, 1_000_000),
    disk_mb=some.integers(128, 10_000_000),
)


def mistakes(method: str, path: str, asked: Parameters) -> dict[str, str]:
    call = schema.find(method, path)
    assert call is not None
    return schema.mistakes(call, {**{name: str(value) for name, value in asked.items()}, **call.in_path})


@given(specs)
def test_the_schema_accepts_every_specification(spec: ContainerSpec) -> None:
    parameters.check_spec(spec)
    created = parameters.create_parameters(SETTINGS, spec, MARKER, "local:vztmpl/debian-12.tar.zst")
    assert mistakes("POST", "/nodes/pve1/lxc", created) == {}
    for full in (True, False):
        cloned = parameters.clone_parameters(SETTINGS, spec, MARKER, full=full)
        assert mistakes("POST", "/nodes/pve1/lxc/9000/clone", cloned) == {}
    changed = parameters.clone_changes(SETTINGS, spec, {"net1": "x", "protection": 1})
    assert mistakes("PUT", "/nodes/pve1/lxc/104/config", changed) == {}


@given(some.dictionaries(some.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), some.text()))
def test_variables_come_back_as_they_went_or_are_refused(environment: dict[str, str]) -> None:
    if parameters.wrong_variables(environment):
        return
    text = parameters.env_text(environment)
    assert parameters.read_env(text) == environment
    assert "\n" not in text
    if environment:
        assert mistakes("PUT", "/nodes/pve1/lxc/104/config", {"env": text}) == {}


def test_only_our_own_parameters_are_sent() -> None:
    asked = parameters.create_parameters(SETTINGS, SPEC, MARKER, "local:vztmpl/debian-12.tar.zst")
    assert (asked["features"], asked["unprivileged"], asked["swap"]) == ("nesting=1", 1, 0)
    assert not [name for name in asked if name.startswith(("mp", "dev", "hook", "lxc", "password", "tags", "env"))]


def test_every_rule_of_the_firewall_fits_the_schema() -> None:
    rules = parameters.firewall_rules(SETTINGS)
    assert [mistakes("POST", "/nodes/pve1/lxc/104/firewall/rules", rule) for rule in rules] == [{}] * 4
    assert mistakes("PUT", "/nodes/pve1/lxc/104/firewall/options", parameters.firewall_options(SETTINGS)) == {}
    assert [rule.get("dest") or rule.get("source") for rule in rules] == [
        "10.0.0.2",
        "fd00::2",
        "10.0.0.0/24",
        "10.0.0.0/24",
    ]


@pytest.mark.parametrize(
    ("has", "becomes"),
    [("", "nesting=1"), ("nesting=0", "nesting=1"), ("keyctl=1", "keyctl=1,nesting=1"), ("keyctl=1,nesting=1", None)],
)
def test_a_clone_can_nest_and_its_other_features_stay(has: str, becomes: str | None) -> None:
    assert parameters.clone_changes(SETTINGS, SPEC, {"features": has}).get("features") == becomes


def test_a_network_may_have_a_vlan() -> None:
    assert parameters.net0(replace(SETTINGS, vlan=12)).endswith(",tag=12,type=veth")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("clean", "clean"),
        ("before-job", "before-job"),
        ("2026-01", "s-2026-01"),
        ("current", "s-current"),
        ("a", "s-a"),
    ],
)
def test_every_label_is_a_name_that_proxmox_takes(label: str, name: str) -> None:
    assert parameters.snapshot_name(label) == name
    assert mistakes("POST", "/nodes/pve1/lxc/104/snapshot", {"snapname": name}) == {}


@pytest.mark.parametrize("label", ["", "A", "a b", "a/../b", "x" * 37])
def test_other_labels_are_refused(label: str) -> None:
    with pytest.raises(InvalidRequest):
        parameters.snapshot_name(label)


@pytest.mark.parametrize(
    ("field", "value"), [("name", "A"), ("cpus", 0), ("memory_mb", 15), ("disk_mb", 0), ("environment", {"A B": "x"})]
)
def test_a_spec_that_will_not_do_names_its_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parameters.check_spec(replace(SPEC, **{field: value}))  # type: ignore[arg-type]  # wrong values on purpose
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize(
    ("rootfs", "size"),
    [("z:subvol-1-disk-0,size=8G", 8192), ("z:x,size=512M", 512), ("z:x,size=1.5G", 1536), ("z:x", None), (None, None)],
)
def test_the_size_of_a_disk_is_read(rootfs: str | None, size: int | None) -> None:
    assert parameters.disk_mb(rootfs) == size


@pytest.mark.parametrize(
    ("release", "can"), [("9.1", True), ("9.1.4", True), ("10.0", True), ("9.0", False), ("8.4", False), ("", False)]
)
def test_variables_came_with_9_1(release: str, can: bool) -> None:
    assert parameters.has_environment(release) is can


def test_a_limit_of_processes_is_seen() -> None:
    assert parameters.limits_processes({"lxc": [["lxc.cgroup2.pids.max", "1024"]]})
    assert not parameters.limits_processes({})
