"""Templates of shards: what all types have is one layer, and what a type adds is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shards.providers.base import NullJournal
from shards.providers.lxc import role, template
from shards.providers.lxc.chroot import Chroot
from shards.providers.lxc.layers import Manifest

FENCE = {"shard_fence_root": ["10.213.0.1:8000"]}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Recipes by the name of what would be built of them, and the variables of the role by the same name."""
    found: dict[str, Any] = {}

    def build_layer(root: Path, name: str, recipe: template.Recipe) -> Manifest:
        found[name] = recipe
        return Manifest(name, "digest", template.SUITE, "now", {})

    monkeypatch.setattr(template, "build_layer", build_layer)
    monkeypatch.setattr(role, "make_shard", lambda chroot, variables, journal: found.update(played=dict(variables)))
    return found


def build(name: str, **options: Any) -> None:
    role.build(Path("/nowhere"), name, {**role.of_type(name), **FENCE}, NullJournal(), **options)


def played(built: dict[str, Any], name: str) -> dict[str, Any]:
    built[name].configure(Chroot(Path("/nowhere"), {}))
    return dict(built["played"])


def test_a_general_shard_is_the_common_layer(built: dict[str, Any]) -> None:
    build("general", packages=("ifupdown",))
    assert built["general"].configure is None
    assert built["general"].below == role.COMMON
    assert built[role.COMMON].packages == ("ifupdown",)
    assert played(built, role.COMMON) == {**role.of_type("general"), **FENCE}


@pytest.mark.parametrize("name", ["playwright", "database", "full"])
def test_a_type_adds_its_servers_to_it(built: dict[str, Any], name: str) -> None:
    build(name)
    assert played(built, name) == {**role.of_type(name), **FENCE}
    assert played(built, role.COMMON) == {**role.of_type("general"), **FENCE}


def test_all_types_have_the_same_layer_below(built: dict[str, Any]) -> None:
    digests = set()
    for name in ("general", "playwright", "database", "full"):
        build(name)
        digests.add(template.digest_of(built[role.COMMON], []))
    assert len(digests) == 1


@pytest.mark.parametrize("options", [{"sources": "newer"}, {"inputs": "others"}])
def test_other_inputs_mean_another_build_of_both_layers(built: dict[str, Any], options: dict[str, str]) -> None:
    build("full")
    before = {name: template.digest_of(built[name], []) for name in ("full", role.COMMON)}
    build("full", **options)
    assert all(template.digest_of(built[name], []) != before[name] for name in before)


def test_a_fresh_build_begins_with_the_common_layer(built: dict[str, Any]) -> None:
    build("full", again=True)
    assert built[role.COMMON].is_fresh
