"""The embedded database and broker, for real: as who the tests run, and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict

from myctobot.stack import launch
from myctobot.stack import postgres as postgres_module
from myctobot.stack import redis as redis_module
from myctobot.stack.errors import ServiceFailed, StackError
from myctobot.stack.home import OWNER_ONLY, GeneratedSecrets
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.ports import listen
from myctobot.stack.postgres import SOCKET_NAME, EmbeddedPostgres, named_user, wheel_folder
from myctobot.stack.processes import ProcessId, wait_until_gone
from myctobot.stack.redis import EmbeddedRedis, find_server
from myctobot.stack.services import Service
from myctobot.stack.users import number_of

# Starts both, says so, waits for its input to end, stops both.
SCRIPT = """
import sys
from pathlib import Path
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.redis import EmbeddedRedis
services = [EmbeddedPostgres(Path(sys.argv[1]), durable=False), EmbeddedRedis(Path(sys.argv[1]), port=0)]
print(*[service.start() for service in services], *[service.pid for service in services], flush=True)
sys.stdin.read()
for service in services: service.stop()
"""


def identity(service: Service) -> ProcessId:
    assert service.pid
    found = ProcessId.of(service.pid)
    assert found
    return found


def servers_of(home: Path) -> list[psutil.Process]:
    """Every process that works in a home, by its working directory."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        if (process.info["cwd"] or "").startswith(str(home)):
            found.append(process)
    return found


# The programs of a stack that root starts pass through the folder of the socket, and have passwords.
SOCKET_FOLDER_MODE = 0o711 if os.geteuid() == 0 else 0o700


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM note").fetchone()
        return int(row[0]) if row else -1


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    service = EmbeddedPostgres(tmp_path / "home")
    yield service
    service.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    service = EmbeddedRedis(tmp_path / "home", port=0)
    yield service
    service.stop()


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that other users cannot enter, with the programs, as in a checkout that only root can enter."""
    folder, wheel = tmp_path / "closed", wheel_folder()
    folder.mkdir(mode=0o700)
    for name in (f"{wheel.name}/pginstall18", f"{wheel.name}.libs"):
        shutil.copytree(wheel.parent / name, folder / name, symlinks=True)
    (folder / "libexec").mkdir()
    server, version = find_server()
    (folder / "libexec/redis-server").symlink_to(server.resolve())
    monkeypatch.setattr(postgres_module, "wheel_folder", lambda: folder / wheel.name)
    monkeypatch.setattr(redis_module, "find_server", lambda: (folder / "libexec/redis-server", version))
    return folder


@pytest.mark.parametrize("service_class", [EmbeddedPostgres, EmbeddedRedis])
def test_a_service_runs_from_a_folder_that_only_its_starter_can_enter(closed: Path, service_class: Any) -> None:
    service = service_class(closed / "home")
    try:
        service.start()
        assert service.is_ready()
    finally:
        service.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == OWNER_ONLY


def test_data_outlive_a_restart(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.start()) as connection:
        connection.execute("CREATE TABLE note AS SELECT 1")
    postgres.stop()
    assert count(postgres.start()) == 1


def test_data_outlive_a_killed_server(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.start()) as connection:
        connection.execute("CREATE TABLE note AS SELECT 1")
    os.kill(identity(postgres).pid, signal.SIGKILL)
    again = EmbeddedPostgres(postgres.home.root)
    assert count(again.start()) == 1
    again.stop()


def test_a_server_left_behind_is_replaced(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    left = identity(postgres)
    second = EmbeddedPostgres(postgres.home.root)
    url = second.start()
    assert not left.is_alive()
    psycopg.connect(url).close()
    second.stop()


def test_a_pid_file_with_a_reused_pid_is_ignored(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    postgres.stop()
    note = postgres.home.root / "pg" / "data" / "postmaster.pid"
    note.write_text(f"{os.getpid()}\n{note.parent}\n1\n5432\n\n\n\nready\n")
    psycopg.connect(postgres.start()).close()


def test_the_database_listens_on_a_private_socket_only(postgres: EmbeddedPostgres) -> None:
    url = postgres.start()
    assert psutil.Process(postgres.pid).net_connections("inet") == []
    folder = Path(str(conninfo_to_dict(url)["host"]))
    assert stat.S_IMODE(folder.stat().st_mode) == SOCKET_FOLDER_MODE
    assert stat.S_ISSOCK((folder / SOCKET_NAME).stat().st_mode)


def test_no_service_runs_as_root(postgres: EmbeddedPostgres, broker: EmbeddedRedis) -> None:
    for service in (postgres, broker):
        service.start()
        uid = psutil.Process(service.pid).uids().real
        assert uid == (number_of(service.name) if os.geteuid() == 0 else os.geteuid())


def test_a_home_with_a_long_path_gets_a_short_socket_folder(tmp_path: Path) -> None:
    service = EmbeddedPostgres(tmp_path / ("long" * 25) / "home", durable=False)
    psycopg.connect(service.start()).close()
    note = service.home.run / "postgres-socket-folder"
    folder = Path(note.read_text())
    assert stat.S_IMODE(folder.stat().st_mode) == SOCKET_FOLDER_MODE
    service.stop()
    assert not folder.exists()


def test_data_of_an_unknown_version_are_left_alone(postgres: EmbeddedPostgres) -> None:
    data = postgres.home.root / "pg" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(StackError, match="PostgreSQL 9 created the database"):
        postgres.start()


def test_a_service_that_does_not_start_says_what_it_wrote(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    postgres.stop()
    (postgres.home.root / "pg" / "data" / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(ServiceFailed, match='unrecognized configuration parameter "nonsense"'):
        postgres.start()


def test_the_broker_wants_its_password(broker: EmbeddedRedis) -> None:
    url = broker.start()
    with redis.Redis.from_url(url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with redis.Redis.from_url("redis://" + url.partition("@")[2]) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_the_brokers_password_is_in_no_argument_list(broker: EmbeddedRedis) -> None:
    broker.start()
    password = GeneratedSecrets.load_or_create(broker.home.root).redis_password
    assert password not in " ".join(psutil.Process(broker.pid).cmdline())


def test_the_broker_listens_on_loopback_only(broker: EmbeddedRedis) -> None:
    broker.start()
    listening = [item.laddr for item in psutil.Process(broker.pid).net_connections() if item.status == "LISTEN"]
    assert [address.ip for address in listening] == ["127.0.0.1"]


def test_the_broker_moves_when_its_port_is_taken(tmp_path: Path) -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        service = EmbeddedRedis(tmp_path / "home", port=port)
        url = service.start()
        service.stop()
    assert f":{port}/" not in url


def test_the_broker_keeps_its_content_over_a_restart(broker: EmbeddedRedis) -> None:
    with redis.Redis.from_url(broker.start()) as client:
        client.lpush("queue", "message")
    broker.stop()
    with redis.Redis.from_url(broker.start()) as client:
        assert client.lrange("queue", 0, -1) == [b"message"]


def test_two_homes_run_side_by_side(tmp_path: Path) -> None:
    services = [EmbeddedPostgres(tmp_path / name, durable=False) for name in ("one", "two")]
    urls = [service.start() for service in services]
    for url in urls:
        psycopg.connect(url).close()
    for service in services:
        service.stop()
    assert len(set(urls)) == 2


def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    services: list[Service] = [EmbeddedPostgres(tmp_path, durable=False), EmbeddedRedis(tmp_path, port=0)]
    for service in services:
        service.start()
    assert servers_of(tmp_path)
    for service in services:
        service.stop()
    assert servers_of(tmp_path) == []


@pytest.fixture
def ordinary_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the ordinary user's."""
    home = tmp_path_factory.mktemp("ordinary")
    if os.geteuid() == 0:
        os.chown(home, named_user(), named_user())
    return home


def start_as_ordinary_user(home: Path) -> subprocess.Popen[str]:
    """Start as another user if root runs the test."""
    become: list[str] = []
    if os.geteuid() == 0:
        options = ["--parent", str(os.getpid()), "--death-signal", "15", "--uid", str(named_user())]
        paths = (CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), home)
        reach = [option for path in paths for option in ("--reach", str(path.resolve()))]
        become = [sys.executable, "-IS", launch.__file__, *options, *reach, "--"]
    return subprocess.Popen(
        [*become, sys.executable, "-c", SCRIPT, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=CHECKOUT,
        env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_an_ordinary_user_can_run_both(ordinary_home: Path) -> None:
    user = named_user() if os.geteuid() == 0 else os.geteuid()
    with start_as_ordinary_user(ordinary_home) as process:
        assert process.stdout
        words = process.stdout.readline().split()
        assert len(words) == 4, process.communicate(timeout=10)[0]
        uids = {psutil.Process(int(pid)).uids().real for pid in words[2:]}
        assert uids == {user}
        assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 0
    assert servers_of(ordinary_home) == []


def test_the_services_end_with_the_process_that_started_them(ordinary_home: Path) -> None:
    process = start_as_ordinary_user(ordinary_home)
    with process:
        assert process.stdout
        words = process.stdout.readline().split()
        servers = [found for pid in words[2:] if (found := ProcessId.of(int(pid)))]
        assert len(servers) == 2
        process.kill()
    assert wait_until_gone(servers, 20) == []
    # What it could not remove any more: the socket's folder, when the path was long.
    EmbeddedPostgres(ordinary_home).clean_up()
