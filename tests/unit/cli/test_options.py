from __future__ import annotations

import shlex

import pytest

from myctobot.cli.commands import job_request
from myctobot.cli.errors import ExitCode
from myctobot.cli.options import read_options


def test_a_short_run_leaves_to_the_server_what_is_the_servers_to_decide() -> None:
    options = read_options(["run", "--prompt", "Fix it."])
    assert job_request(options, options.prompt) == {
        "task": {"type": "prompt", "prompt": "Fix it."},
        "capabilities": ["git", "filesystem"],
    }


def test_every_option_of_a_run_reaches_its_field() -> None:
    line = (
        "run --prompt 'Fix it.' --repo https://h/r.git --branch fix --base-branch main --capability git "
        "--capability playwright --repo-token-secret github --anthropic-key-secret anthropic --issue-key PROJ-1 "
        "--instructions 'Use tabs.' --priority batch --timeout-s 600 --max-turns 30"
    )
    options = read_options(shlex.split(line))
    assert job_request(options, options.prompt) == {
        "task": {
            "type": "implement_ticket",
            "prompt": "Fix it.",
            "repo_url": "https://h/r.git",
            "branch": "fix",
            "base_branch": "main",
            "issue_key": "PROJ-1",
            "repo_token": {"secret": "github"},
        },
        "capabilities": ["git", "playwright"],
        "anthropic_api_key": {"secret": "anthropic"},
        "context": {"additional_instructions": "Use tabs."},
        "priority": "batch",
        "timeout_s": 600,
        "max_turns": 30,
    }


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "--url", "http://there", "jobs"],
        ["jobs", "--json", "--url", "http://there"],
        ["--url", "http://there", "jobs", "--json"],
    ],
)
def test_common_options_stand_before_or_behind_the_command(argv: list[str]) -> None:
    options = read_options(argv)
    assert (options.json, options.url) == (True, "http://there")


def test_common_options_may_be_absent() -> None:
    options = read_options(["jobs"])
    assert (options.json, options.url, options.limit) == (False, None, 20)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "COMMAND"),
        (["dance"], "dance"),
        (["run"], "--prompt"),
        (["run", "--prompt", "a", "--prompt-file", "b"], "--prompt-file"),
        (["run", "--prompt", "  "], "--prompt: must not be empty"),
        (["run", "--prompt", "a\udcff"], "--prompt: must be well-formed Unicode"),
        (["run", "--prompt", "a" * 300_000], "--prompt: has 300000 bytes"),
        (["run", "--prompt", "a", "--repo", ""], "--repo: must not be empty"),
        (["run", "--prompt", "a", "--capability", "Git!"], "--capability: 'Git!' is no capability"),
        (["run", "--prompt", "a", "--priority", "urgent"], "--priority"),
        (["run", "--prompt", "a", "--timeout-s", "1.5"], "--timeout-s: '1.5' is not a whole number"),
        (["run", "--prompt", "a", "--max-turns", "0"], "--max-turns: '0' is not a whole number of at least 1"),
        (["run", "--prompt", "a", "--idempotency-key", "a\nb"], "--idempotency-key"),
        (["run", "--prompt", "a", "--give-up-after", "-1"], "--give-up-after"),
        (["run", "--prompt", "a", "--give-up-after", "soon"], "--give-up-after: 'soon' is not a number of seconds"),
        (["jobs", "--status", "lost"], "--status"),
        (["jobs", "--limit", "0"], "--limit"),
        (["follow"], "ID"),
        (["follow", "../jobs"], "'../jobs' is no job id"),
        (["follow", "job_1", "--after", "x"], "--after"),
        (["show", ""], "is no job id"),
        (["jobs", "--lim", "5"], "--lim"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(argv)
    assert ended.value.code == ExitCode.USAGE
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("code", list(ExitCode))
def test_the_help_names_every_exit_code(code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(["--help"])
    assert f"\n  {code:<3}  " in capsys.readouterr().out
