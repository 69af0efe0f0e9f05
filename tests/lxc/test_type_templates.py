"""Templates of all types of shards: a container boots and has the programs that its type starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider
from tests.ansible.test_types import TEMPLATES, programs

from .conftest import running
from .inside import output, wait_booted
from .templates import shard_template

HOME = "/opt/claude-shard"


@pytest.fixture
def image(host: LxcHost, request: pytest.FixtureRequest) -> Iterator[str]:
    name = str(request.param)
    shard_template(host.path, kind=name)
    yield name
    (host.path / "templates" / name).unlink()


# Without a kept build, the template of a type with a browser takes a minute.
@pytest.mark.long
@pytest.mark.parametrize(
    ("image", "servers"), [(row[0], row[3]) for row in TEMPLATES], indirect=["image"], ids=[row[0] for row in TEMPLATES]
)
def test_a_container_has_the_programs_that_its_type_starts(
    maker: LxcProvider, image: str, servers: dict[str, object]
) -> None:
    ref = running(maker, "alpha", image=image, memory_mb=512, disk_mb=1024)
    assert wait_booted(maker, ref) == "running"
    found = output(maker, ref, "sh", "-c", f"ls {HOME}/venv/bin {HOME}/npm/bin /usr/bin 2>/dev/null").split()
    assert set(programs(servers)) <= set(found)
    assert output(maker, ref, "systemctl", "is-enabled", "claude-shard") == "enabled"
