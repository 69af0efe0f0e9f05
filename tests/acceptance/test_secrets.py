"""Search for canary values of a job's secrets and prompt in every place that could store them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis

from myctobot.stack.plan import CHECKOUT
from tests.acceptance.client import Client, texts
from tests.acceptance.conftest import Guarded
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import branches, make_remote
from tests.stacks import bare_environment

pytestmark = pytest.mark.acceptance

GIT_TOKEN = "canary-git-5d1f0a7be2c94f63"
PROVIDER_KEY = "sk-ant-canary-provider-90c3be71"
JIRA_TOKEN = "canary-jira-7719fe02ab54dd10"
STORED = "canary-stored-secret-11aa22bb33"
PROMPT = "prompt-canary-4b7e19c2"
GIVEN = (GIT_TOKEN, PROVIDER_KEY, JIRA_TOKEN, STORED)


@pytest.fixture(scope="module")
def server(guarded: Guarded) -> GitServer:
    make_remote(guarded.git.root / "repo.git")
    return guarded.git


@pytest.fixture
def secret_client(guarded: Guarded, server: GitServer) -> Client:
    server.token = GIT_TOKEN
    return guarded.client


class Wiretap(threading.Thread):
    """Recorder of every broker command by MONITOR, and of the broker's keys at the end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._redis = redis.Redis.from_url(url, socket_timeout=1)
        self.commands: list[str] = []
        self._ended = threading.Event()
        self.listening = threading.Event()

    def run(self) -> None:
        with self._redis.monitor() as monitor:  # type: ignore[no-untyped-call]  # the library has no annotation here
            self.listening.set()
            while not self._ended.is_set():
                try:
                    self.commands.append(str(monitor.next_command()))
                except (TimeoutError, redis.TimeoutError):
                    continue

    def end(self) -> str:
        self._ended.set()
        self.join(10)
        keys = [str(key) + str(self._redis.dump(key)) for key in self._redis.scan_iter()]
        self._redis.close()
        return "\n".join([*self.commands, *keys])


def variables(client: Client) -> dict[str, str]:
    lines = (client.stack.home / "env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def processes() -> list[tuple[psutil.Process, str, dict[str, str]]]:
    found = []
    for process in psutil.process_iter():
        try:
            found.append((process, " ".join(process.cmdline()), process.environ()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def job_with_secrets(server: GitServer) -> dict[str, object]:
    return {
        "task": {
            "type": "prompt",
            "repo_url": server.url("repo.git"),
            "repo_token": GIT_TOKEN,
            "branch": "secret-work",
            "prompt": f"{PROMPT}\nRUN: env; echo done > done.txt; sleep 4",
        },
        "capabilities": ["git", "filesystem"],
        "anthropic_api_key": PROVIDER_KEY,
        "context": {"jira_token": JIRA_TOKEN, "jira_cloud_id": "cloud"},
    }


def test_no_place_contains_a_canary(secret_client: Client, server: GitServer) -> None:
    client = secret_client
    tap = Wiretap(variables(client)["REDIS_URL"])
    tap.start()
    assert tap.listening.wait(10)
    answer = client.http.post("/jobs", json=job_with_secrets(server))
    assert answer.status_code == 201, answer.text
    job_id = answer.json()["id"]
    client.wait_event(job_id, "tool.call")
    gateway_token = check_processes(client)
    job = client.wait_end(job_id)
    assert job["status"] == "completed", job
    # The job used its token: the server accepted it, and the branch exists.
    assert f"x-access-token:{GIT_TOKEN}" in server.authorizations
    assert "secret-work" in branches(server.root / "repo.git")
    forbidden = (*GIVEN, gateway_token)
    events = texts(client.events(job_id))
    assert "ANTHROPIC_API_KEY=***" in events
    places = {"broker": tap.end(), "events": events, "answer": answer.text, "job": str(job), "log": logs(client)}
    places["rows"] = checked_rows(client)
    for place, content in places.items():
        for canary in forbidden:
            assert canary not in content, f"{canary} is in {place}"
    assert PROMPT not in places["broker"] + places["log"]
    assert files_with(client.stack.home, forbidden) == []


def check_processes(client: Client) -> str:
    """Check arguments and environments of all processes while the agent runs, and return its gateway token."""
    (entry,) = (client.stack.home / "shards" / "local" / "run").glob("*.json")
    runner = psutil.Process(json.loads(entry.read_text())["pid"])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = processes()
        # Stacks of other tests may run agents at the same time.
        ours = {process.pid for process in runner.children(recursive=True)}
        mine = [entry for entry in found if entry[0].pid in ours]
        agents = [entry for entry in mine if "ANTHROPIC_API_KEY" in entry[2] and "/opt/agent" in entry[1]]
        if agents:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("no agent is running")
    agent, _, environ = agents[0]
    token = environ["ANTHROPIC_API_KEY"]
    inside = {agent.pid, *(child.pid for child in agent.children(recursive=True))}
    for process, arguments, environment in found:
        assert token not in arguments
        assert not any(canary in arguments for canary in (*GIVEN, PROMPT) if process.pid not in inside)
        values = " ".join(environment.values())
        assert not any(canary in values for canary in GIVEN), process
        assert token not in values or process.pid in inside, process
    return token


def logs(client: Client) -> str:
    return client.stack.output() + "\n".join(
        file.read_text(errors="replace") for file in (client.stack.home / "log").rglob("*") if file.is_file()
    )


def rows(client: Client) -> dict[str, str]:
    """Return the rows of each table as text."""
    with psycopg.connect(variables(client)["DATABASE_URL"]) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            name: "\n".join(str(row) for row in connection.execute(f'SELECT "{name}"::text FROM "{name}"'))  # noqa: S608  # the names come from the catalogue
            for (name,) in tables
        }


def checked_rows(client: Client) -> str:
    tables = rows(client)
    assert {name for name, text in tables.items() if PROMPT in text} <= {"jobs_job", "jobs_eventbatch"}
    return "\n".join(tables.values())


def files_with(root: Path, canaries: tuple[str, ...]) -> list[Path]:
    """Return the files below ``root`` that contain a canary, including the files of the database."""
    found = []
    for file in root.rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            found += [file for canary in canaries if canary.encode() in content]
    return found


def test_a_stored_secret_is_used_by_its_name(secret_client: Client, server: GitServer) -> None:
    client = secret_client
    job = job_with_secrets(server)
    binding = ["--purpose", "repository", "--host", urlsplit(server.url("repo.git")).netloc]
    manage(client, ["store_secret", "--tenant", "default", "--name", "github", *binding], GIT_TOKEN)
    job["task"] = {**job["task"], "repo_token": {"secret": "github"}, "branch": "by-name"}  # type: ignore[dict-item]  # job_with_secrets returns a dict here
    answer = client.http.post("/jobs", json=job)
    assert answer.status_code == 201, answer.text
    done = client.wait_end(answer.json()["id"])
    assert done["status"] == "completed", done
    assert "by-name" in branches(server.root / "repo.git")
    # The inline secrets were deleted at the end of the job. A retry finds the stored secret by its name.
    refused = client.http.post(f"/jobs/{done['id']}/retry")
    assert refused.status_code == 409
    assert refused.json()["error"]["secrets"] == ["anthropic_api_key", "jira_token"]


def manage(client: Client, command: list[str], stdin: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=CHECKOUT,
        env=bare_environment(client.stack.home),
        input=stdin,
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
