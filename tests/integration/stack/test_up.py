"""``manage.py up`` as people run it: all processes, signals, crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest

from myctobot.stack.home import GeneratedSecrets
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.processes import ProcessId, wait_until_gone
from tests.stack_template import copy_database
from tests.stacks import RunningStack, bare_environment, running_stack, up_command

CANARY = "canary-4711"
CANARIES = {"ANTHROPIC_API_KEY": CANARY, "GITHUB_TOKEN": CANARY, "PYTHONWARNINGS": "", "SOME_SECRET": CANARY}
NAMES = ("postgres", "redis", "web", "gateway", "control", "operations", "beat", "shard-local")
CONTROL_PLANE = ("web", "gateway", "control", "beat")
COMMAND_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("up") / "home", environ=CANARIES) as running:
        yield running


def descendants(stack: RunningStack) -> list[ProcessId]:
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return [found for child in children if (found := ProcessId.of(child.pid))]


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def manage(home: Path, *command: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=CHECKOUT,
        env=bare_environment(home, environ),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )


def test_web_answers(stack: RunningStack) -> None:
    assert httpx.get(f"{stack.web_url}/healthz", timeout=5).status_code == 200


def test_the_api_key_opens_the_api(stack: RunningStack) -> None:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    assert httpx.get(f"{stack.web_url}/api/v1/jobs", headers=headers, timeout=5).status_code == 200


def test_no_repository_of_this_machine_is_open(stack: RunningStack) -> None:
    task = {"type": "prompt", "prompt": "x", "repo_url": f"file://{CHECKOUT}"}
    answer = httpx.post(
        f"{stack.web_url}/api/v1/jobs",
        json={"task": task, "capabilities": ["git"]},
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=5,
    )
    assert answer.status_code == 400
    assert "allowed here: https, ssh" in answer.json()["error"]["message"]
    assert json.loads(stack.shards["local"].read_text())["git"]["file_roots"] == []


def test_a_second_one_says_where_the_first_is(stack: RunningStack) -> None:
    second = manage(stack.home, "up")
    assert second.returncode == 0
    assert "already running" in second.stdout
    assert stack.web_url in second.stdout


def test_a_second_one_writes_no_ready_file(stack: RunningStack, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    assert manage(stack.home, "up", "--ready-file", str(ready)).returncode == 0
    assert not ready.exists()


def test_the_login_is_the_last_line_of_the_start_and_is_shown_again(stack: RunningStack) -> None:
    said = f"{stack.login} / {stack.password}"
    wait_for(lambda: any(f"login: {said}" in line for line in stack.output().splitlines()))
    lines = stack.output().splitlines()
    banner = [line for line in lines if line.startswith("│")]
    assert said in banner[-1]
    shown = manage(stack.home, "login")
    assert shown.returncode == 0, shown.stderr
    assert stack.web_url in shown.stdout
    assert stack.api_key in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith(said)


def test_other_commands_find_the_running_stack(stack: RunningStack) -> None:
    done = manage(
        stack.home, "shell", "--no-imports", "-c", "from shards.models import Shard; print(Shard.objects.get())"
    )
    assert done.returncode == 0, done.stderr
    assert "local" in done.stdout


def test_no_process_knows_the_callers_variables(stack: RunningStack) -> None:
    read = 0
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        # PostgreSQL ends processes of its own at any time.
        with suppress(FileNotFoundError, ProcessLookupError):
            values = Path(f"/proc/{process.pid}/environ").read_text()
            assert CANARY not in values, process.pid
            read += 1
    assert read >= len(list((stack.home / "run").glob("*.json")))


def test_the_shard_knows_nothing_of_the_control_plane(stack: RunningStack) -> None:
    names = set(psutil.Process(stack.pid_of("shard-local")).environ())
    assert names <= {"PATH", "HOME", "LANG", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "PYTHONUNBUFFERED"}


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("beat", {"DATABASE_URL", "SECRET_KEY", "SECRETS_KEYS"}),
        ("control", {"SECRETS_KEYS"}),
        ("gateway", {"REDIS_URL", "SECRET_KEY", "CALLBACK_KEYS"}),
        ("operations", {"SECRETS_KEYS"}),
        ("postgres", {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "SECRETS_KEYS"}),
        ("redis", {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "SECRETS_KEYS"}),
    ],
)
def test_a_process_has_only_the_secrets_that_it_needs(stack: RunningStack, name: str, without: set[str]) -> None:
    assert not without & psutil.Process(stack.pid_of(name)).environ().keys()


def test_no_argument_list_holds_a_secret(stack: RunningStack) -> None:
    made = GeneratedSecrets.load_or_create(stack.home)
    secrets = (made.secret_key, made.secrets_keys, made.redis_password, made.admin_password, stack.api_key)
    lines = " ".join(
        " ".join(process.cmdline()) for process in psutil.Process(stack.process.pid).children(recursive=True)
    )
    assert not [secret for secret in secrets if secret in lines]


def test_no_secret_but_the_login_and_the_key_is_printed(stack: RunningStack) -> None:
    made = GeneratedSecrets.load_or_create(stack.home)
    output = stack.output()
    assert not [secret for secret in (made.secret_key, made.secrets_keys, made.redis_password) if secret in output]
    assert stack.password in output


@pytest.mark.parametrize("name", ["shard-local", "control", "web"])
def test_a_killed_process_is_started_again_and_the_others_go_on(stack: RunningStack, name: str) -> None:
    before = {other: stack.pid_of(other) for other in NAMES}
    os.kill(before[name], signal.SIGKILL)
    wait_for(lambda: (stack.home / "run" / f"{name}.json").exists() and stack.pid_of(name) != before[name])
    wait_for(lambda: httpx.get(f"{stack.web_url}/healthz", timeout=10).status_code == 200)
    assert {other for other in NAMES if stack.pid_of(other) != before[other]} == {name}


def test_two_run_side_by_side_and_a_killed_one_is_recovered(stack: RunningStack, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_stack(home) as first:
        left = descendants(first)
        assert {first.web_url, first.gateway_url}.isdisjoint({stack.web_url, stack.gateway_url})
        first.process.kill()
        first.process.wait()
    with running_stack(home) as second:
        assert wait_until_gone(left, 5) == []
        headers = {"Authorization": f"Bearer {first.api_key}"}
        assert httpx.get(f"{second.web_url}/api/v1/jobs", headers=headers, timeout=5).status_code == 200
    assert httpx.get(f"{stack.web_url}/healthz", timeout=5).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_process_and_no_address(tmp_path: Path, number: signal.Signals) -> None:
    with running_stack(tmp_path / "home") as stack:
        started = descendants(stack)
        assert stack.stop(number) == 0
    assert [process for process in started if process.is_alive()] == []
    assert not list((stack.home / "run").glob("*.json"))
    assert not (stack.home / "env").exists()
    assert not (stack.home / "stack.json").exists()
    assert list((stack.home / "tmp").iterdir()) == []


def test_stopping_in_the_middle_of_the_start_leaves_no_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = subprocess.Popen(
        up_command("--web-port", "0", "--gateway-port", "0"),
        cwd=CHECKOUT,
        env=bare_environment(home),
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: (home / "run" / "migrate.json").exists())
    started = [
        found for child in psutil.Process(process.pid).children(recursive=True) if (found := ProcessId.of(child.pid))
    ]
    process.terminate()
    assert process.wait(30) == 130
    assert [found for found in started if found.is_alive()] == []


def test_given_services_are_used_instead_of_its_own(tmp_path: Path) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE given LOGIN PASSWORD 'given'")
        connection.execute("CREATE DATABASE given OWNER given")
    # The server lets in its superuser only as the user that started it, which the programs of root's stack are not.
    database_url = urlsplit(os.environ["DATABASE_URL"])._replace(netloc="given:given@", path="/given").geturl()
    redis_url = os.environ["REDIS_URL"].replace("/0", "/1")
    with running_stack(tmp_path / "home", environ={"DATABASE_URL": database_url, "REDIS_URL": redis_url}) as stack:
        assert httpx.get(f"{stack.web_url}/healthz", timeout=5).status_code == 200
        assert not {path.stem for path in (stack.home / "run").glob("*.json")} & {"postgres", "redis"}
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM shards_shard").fetchone() == (1,)


def test_a_step_that_fails_ends_the_stack_with_its_last_lines(tmp_path: Path) -> None:
    nowhere = "postgresql://user@127.0.0.1:1/none"
    done = manage(tmp_path / "home", "up", "--web-port", "0", "--gateway-port", "0", environ={"DATABASE_URL": nowhere})
    assert done.returncode == 1
    assert "migrate ended with exit code 1. Its last log lines:" in done.stdout
    assert "port 1 failed" in done.stdout


def test_a_process_that_does_not_start_ends_no_other_one(tmp_path: Path) -> None:
    with running_stack(tmp_path / "home", "--without", "shard", "--without", "gateway") as stack:
        folder = stack.home / "beat"
        kept = folder.rename(stack.home / "beat.kept")
        # Beat keeps its schedule in this folder, which is a file now.
        folder.touch()
        os.kill(stack.pid_of("beat"), signal.SIGKILL)

        def failing() -> list[str]:
            answer = httpx.get(f"{stack.web_url}/healthz", timeout=20, trust_env=False)
            assert answer.status_code == 200
            return list(answer.json().get("failing_parts", []))

        wait_for(lambda: failing() == ["beat"], 120)
        folder.unlink()
        kept.rename(folder)
        wait_for(lambda: failing() == [], 120)
        assert stack.process.poll() is None
        assert "beat does not start; its last lines:" in stack.output()


def test_a_process_that_does_not_start_ends_the_stack_if_that_is_wanted(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("scripts: [{name: one, steps: [{texts: typo}]}]")
    options = ("--web-port", "0", "--gateway-port", "0", "--give-up-after", "2", "--without", "shard")
    done = manage(tmp_path / "home", "up", *options, environ={"GATEWAY_SCRIPTS": str(broken)})
    assert done.returncode == 1
    assert "gateway ended 2 times in a row right after its start" in done.stdout


@contextmanager
def starting(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start ``up`` with a database that does not start, and return the process and its output."""
    copy_database(home)
    (home / "pg/data/postgresql.auto.conf").write_text("nonsense = 1\n")
    log = home.parent / "up.log"
    with log.open("wb") as output:
        ports = ("--web-port", "0", "--gateway-port", "0")
        process = subprocess.Popen(
            up_command(*ports, "--without", "shard", *options),
            cwd=CHECKOUT,
            env=bare_environment(home),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(60)


def test_a_database_and_a_broker_that_do_not_start_are_tried_again_until_they_do(tmp_path: Path) -> None:
    home, ready = tmp_path / "home", tmp_path / "ready.json"
    with starting(home, "--ready-file", str(ready)) as (process, log):
        wait_for(lambda: log.read_text().count("postgres ended with exit code 1; restarting it") > 4, 60)
        (home / "redis").touch()
        (home / "pg/data/postgresql.auto.conf").write_text("")
        # The folder of the broker is a file.
        wait_for(lambda: log.read_text().count("trying redis again") > 1, 60)
        (home / "redis").unlink()
        wait_for(ready.exists, 60)
        assert process.poll() is None
        assert httpx.get(f"{json.loads(ready.read_text())['urls']['web']}/healthz", timeout=5).status_code == 200
    output = log.read_text()
    assert 'unrecognized configuration parameter "nonsense"' in output
    assert f"its log: {home}/log/postgres.log" in output
    assert "redis cannot be prepared: [Errno 20] Not a directory" in output
    assert process.returncode == 0


def test_stopping_while_the_database_is_tried_again_ends_at_once(tmp_path: Path) -> None:
    with starting(tmp_path / "home") as (process, log):
        wait_for(lambda: "restarting it in 4 s" in log.read_text())
        process.terminate()
        assert process.wait(3) == 130


def test_a_database_that_does_not_start_ends_the_stack_if_that_is_wanted(tmp_path: Path) -> None:
    with starting(tmp_path / "home", "--give-up-after", "2") as (process, log):
        assert process.wait(30) == 1
    output = log.read_text()
    assert "postgres ended 2 times in a row right after its start, with exit code 1" in output
    assert f"Its last log lines ({tmp_path}/home/log/postgres.log):" in output


def test_a_database_of_another_version_ends_the_stack_at_once(tmp_path: Path) -> None:
    copy_database(tmp_path / "home")
    (tmp_path / "home/pg/data/PG_VERSION").write_text("99\n")
    done = manage(tmp_path / "home", "up", "--web-port", "0", "--gateway-port", "0", "--without", "shard")
    assert done.returncode == 1
    assert "PostgreSQL 99 created the database, but this installation has 18" in done.stdout
    assert "trying postgres again" not in done.stdout


def test_what_is_left_out_is_not_started(tmp_path: Path) -> None:
    with running_stack(tmp_path / "home", "--without", "shard", "--without", "beat") as stack:
        running = {path.stem for path in (stack.home / "run").glob("*.json")}
    assert running == {*NAMES} - {"shard-local", "beat"}


def test_several_web_processes_answer_on_one_port(tmp_path: Path) -> None:
    without = [option for name in ("shard", "beat", "control", "gateway") for option in ("--without", name)]
    with running_stack(tmp_path / "home", "--web-processes", "2", *without) as stack:
        first, second = stack.web_pids()
        for stopped in (first, second):
            # With either of them away the other answers.
            os.kill(stopped, signal.SIGSTOP)
            try:
                assert httpx.get(f"{stack.web_url}/healthz", timeout=20, trust_env=False).status_code == 200
            finally:
                os.kill(stopped, signal.SIGCONT)
    assert not any(psutil.pid_exists(pid) for pid in (first, second))


def test_the_shard_api_has_its_process_with_several_web_processes(tmp_path: Path) -> None:
    without = [option for name in ("beat", "control", "operations", "gateway") for option in ("--without", name)]
    with running_stack(tmp_path / "home", "--web-processes", "2", *without) as stack:
        url = json.loads(stack.shards["local"].read_text())["control_url"]
        assert url != stack.web_url
        # The worker of the local shard uses it while all web processes are away.
        stopped = stack.web_pids()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            answers = [
                httpx.post(f"{url}/shard/v1/heartbeat", timeout=20, trust_env=False),
                httpx.get(f"{url}/healthz", timeout=20, trust_env=False),
                httpx.get(f"{url}/api/v1/jobs", timeout=20, trust_env=False),
            ]
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        # Shards that were configured for the web port still find the shard API there.
        old = httpx.post(f"{stack.web_url}/shard/v1/heartbeat", timeout=20, trust_env=False)
    assert [answer.status_code for answer in (*answers, old)] == [401, 200, 404, 401]


def test_a_port_for_the_shard_api_starts_its_process(tmp_path: Path) -> None:
    without = [
        option for name in ("shard", "beat", "control", "operations", "gateway") for option in ("--without", name)
    ]
    with running_stack(tmp_path / "home", "--shard-api-port", "0", *without) as stack:
        assert psutil.pid_exists(stack.pid_of("shardapi"))


def test_no_web_process_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        up_command("--web-processes", "0"),
        cwd=CHECKOUT,
        env=bare_environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "--web-processes: must be 1 or more; to run none, use --without web." in done.stderr
