from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import environ
import pytest

from myctobot.lib.crypto import CannotUnseal, Sealer
from myctobot.stack.environment import (
    Addresses,
    base_environment,
    caller_environment,
    env_file,
    own_variables,
    variables_of,
)
from myctobot.stack.errors import StackError
from myctobot.stack.home import GeneratedSecrets, Home

ADDRESSES = Addresses("postgresql://db", "redis://broker", "http://control", "http://gateway")
CANARIES = {
    "ANTHROPIC_API_KEY": "canary",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "GITHUB_TOKEN": "canary",
    "LD_PRELOAD": "canary",
    "PYTHONPATH": "canary",
    "SSH_AUTH_SOCK": "canary",
    "http_proxy": "canary",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_nothing_that_is_not_listed_goes_on(home: Home) -> None:
    base = base_environment(CANARIES, home)
    own = own_variables(CANARIES, home, GeneratedSecrets(), ADDRESSES)
    assert "canary" not in [*base.values(), *own.values()]


def test_a_shard_gets_nothing_of_the_control_plane(home: Home) -> None:
    caller = {"PATH": "/bin", "HOME": "/home/me", "TZ": "UTC", "SECRET_KEY": "s", "DATABASE_URL": "d", "REDIS_URL": "r"}
    assert base_environment(caller, home).keys() == {"PATH", "HOME", "TZ", "TMPDIR", "PYTHONUNBUFFERED"}


def test_programs_of_the_virtual_environment_come_first(home: Home) -> None:
    path = base_environment({"PATH": "/somewhere"}, home)["PATH"]
    assert path == f"{Path(sys.executable).parent}:/somewhere"


def test_the_callers_own_settings_go_on(home: Home) -> None:
    own = own_variables({"GATEWAY_UPSTREAM": "anthropic", "SECRET_KEY": "mine"}, home, GeneratedSecrets(), ADDRESSES)
    assert (own["GATEWAY_UPSTREAM"], own["SECRET_KEY"]) == ("anthropic", "mine")


def test_the_stack_opens_no_folder_for_repositories_by_itself(home: Home) -> None:
    assert not {"REPO_FILE_ROOTS", "REPO_SCHEMES"} & own_variables({}, home, GeneratedSecrets(), ADDRESSES).keys()
    caller = {"REPO_FILE_ROOTS": "/srv/repos"}
    assert own_variables(caller, home, GeneratedSecrets(), ADDRESSES)["REPO_FILE_ROOTS"] == "/srv/repos"


def test_the_stack_reads_values_in_files(home: Home, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-the-file\n")
    caller = {"METRICS_TOKEN_FILE": str(tmp_path / "token"), "METRICS_TOKEN": "no", "PROXMOX_CA_FILE": "/ca.pem"}
    own = own_variables(caller, home, GeneratedSecrets(), ADDRESSES)
    assert (own["METRICS_TOKEN"], own["PROXMOX_CA_FILE"]) == ("from-the-file", "/ca.pem")
    assert not {"METRICS_TOKEN_FILE", "PROXMOX_CA"} & own.keys()


@pytest.mark.parametrize("content", [None, b"x" * 70_000, b"\xff"])
def test_a_file_that_cannot_be_a_value_stops_the_start(home: Home, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(StackError, match="SECRET_KEY_FILE: "):
        own_variables({"SECRET_KEY_FILE": str(tmp_path / "key")}, home, GeneratedSecrets(), ADDRESSES)


def test_the_stack_decides_its_own_addresses(home: Home) -> None:
    caller = {"CONTROL_URL": "http://stale", "DATABASE_URL": "stale", "EMBEDDED": "0"}
    own = own_variables(caller, home, GeneratedSecrets(), ADDRESSES)
    assert (own["CONTROL_URL"], own["DATABASE_URL"], own["EMBEDDED"]) == ("http://control", "postgresql://db", "1")


FEW = {
    "migrate": {"DATABASE_URL", "SECRETS_KEYS"},
    "beat": {"REDIS_URL"},
    "flower": {"REDIS_URL"},
    "egress": {"LXC_PATH", "EGRESS_PORT"},
    "gateway": {"DATABASE_URL", "SECRETS_KEYS", "GATEWAY_URL", "GATEWAY_UPSTREAM", "ALLOWED_HOSTS"},
}


def variables(home: Home) -> dict[str, str]:
    caller = {"LXC_PATH": "/l", "EGRESS_PORT": "1", "PROXMOX_TOKEN_SECRET": "p", "METRICS_TOKEN": "m"}
    return own_variables(caller, home, GeneratedSecrets(), ADDRESSES)


@pytest.mark.parametrize("program", FEW)
def test_a_process_with_few_tasks_gets_only_their_variables(home: Home, program: str) -> None:
    found = variables_of(program, variables(home)).keys()
    assert found - {"MYCTOBOT_HOME", "EMBEDDED"} == FEW[program]


@pytest.mark.parametrize(
    ("program", "unseals"),
    [
        *(("web", True), ("web-2", True), ("shardapi", True), ("gateway", True), ("migrate", True)),
        *(("control", False), ("operations", False), ("bootstrap", False), ("beat", False), ("egress", False)),
    ],
)
def test_only_processes_that_unseal_secrets_have_the_keys(home: Home, program: str, unseals: bool) -> None:
    assert ("SECRETS_KEYS" in variables_of(program, variables(home))) is unseals


def test_the_process_that_signs_callbacks_can_open_nothing_else(home: Home) -> None:
    everything = variables(home)
    ours = variables_of("control", everything)["CALLBACK_KEYS"].split(",")
    sealed = Sealer(everything["SECRETS_KEYS"].split(",")).seal({"value": "x"}, bound_to="row")
    with pytest.raises(CannotUnseal):
        Sealer(ours).unseal(sealed, bound_to="row")
    assert "CALLBACK_KEYS" not in variables_of("operations", everything)


def test_a_malformed_key_stops_the_start(home: Home) -> None:
    with pytest.raises(StackError, match="SECRETS_KEYS"):
        own_variables({"SECRETS_KEYS": "no-key"}, home, GeneratedSecrets(), ADDRESSES)


def test_only_the_web_process_has_the_token_of_the_metrics(home: Home) -> None:
    having = [
        name for name in ("web", "control", "operations") if "METRICS_TOKEN" in variables_of(name, variables(home))
    ]
    assert having == ["web"]


def test_settings_read_back_what_the_env_file_says(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environ.Env, "ENVIRON", {})
    own = own_variables({"ALLOWED_HOSTS": "a,b#c"}, home, GeneratedSecrets(), ADDRESSES)
    home.env.write_text(env_file(own))
    environ.Env.read_env(home.env)
    assert own == environ.Env.ENVIRON


def test_a_value_with_a_line_break_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="DEBUG contains a line break"):
        env_file({"DEBUG": "1\nSECRET_KEY=mine"})


def test_later_changes_are_not_the_callers() -> None:
    script = (
        "import os; os.environ['DATABASE_URL'] = 'stale';"
        "from myctobot.stack.environment import caller_environment as c; print(sorted(c()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PATH": os.defpath}, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "['PATH']"


def test_the_environment_is_the_callers() -> None:
    assert caller_environment()["PATH"]
