from __future__ import annotations

import shlex
from typing import Any

import pytest

from jobs.lifecycle.retry_policy import RETRYABLE_CAUSES
from myctobot.cli.commands import job_request
from myctobot.cli.errors import ExitCode, UsageError
from myctobot.cli.options import RETRY_CAUSES, read_options


def test_a_short_run_leaves_defaults_to_the_server() -> None:
    options = read_options(["run", "--prompt", "Fix it."])
    assert job_request(options, options.prompt) == {
        "task": {"type": "prompt", "prompt": "Fix it."},
        "capabilities": ["git", "filesystem"],
    }


def test_every_option_of_a_run_reaches_its_field() -> None:
    line = (
        "run --prompt 'Fix it.' --repo https://h/r.git --branch fix --base-branch main --capability git "
        "--capability playwright --repo-token-secret github --anthropic-key-secret anthropic --issue-key PROJ-1 "
        "--instructions 'Use tabs.' --priority batch --timeout-s 600 --max-turns 30 --no-output-timeout-s 90 "
        "--queue-timeout-s 3600 --not-before 2030-01-31T08:30+01:00 --retry 3 --retry-on timeout,agent "
        "--concurrency-key nightly --concurrency-limit 2"
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
        "no_output_timeout_s": 90,
        "queue_timeout_s": 3600,
        "not_before": "2030-01-31T08:30:00+01:00",
        "retry": {"max_attempts": 3, "on": ["agent", "timeout"]},
        "concurrency": {"key": "nightly", "limit": 2},
    }


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("--retry 1", "retry", {"max_attempts": 1}),
        ("--retry-on timeout,timeout", "retry", {"on": ["timeout"]}),
        ("--concurrency-key nightly", "concurrency", {"key": "nightly"}),
        ("--not-before 2030-01-31T08:30Z", "not_before", "2030-01-31T08:30:00+00:00"),
        ("--capabilities git,playwright --capability browser", "capabilities", ["git", "playwright", "browser"]),
    ],
)
def test_a_partial_field_leaves_the_rest_to_the_server(line: str, field: str, expected: Any) -> None:
    options = read_options(["run", "--prompt", "Fix it.", *shlex.split(line)])
    assert job_request(options, options.prompt)[field] == expected


def test_a_limit_without_a_key_is_refused() -> None:
    options = read_options(["run", "--prompt", "Fix it.", "--concurrency-limit", "2"])
    with pytest.raises(UsageError, match="--concurrency-limit: needs --concurrency-key"):
        job_request(options, options.prompt)


def test_the_causes_of_failures_are_the_servers() -> None:
    assert tuple(cause.value for cause in RETRYABLE_CAUSES) == RETRY_CAUSES


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "--url", "http://there", "jobs"],
        ["jobs", "--json", "--url", "http://there"],
        ["--url", "http://there", "jobs", "--json"],
    ],
)
def test_common_options_may_be_before_or_after_the_command(argv: list[str]) -> None:
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
        (["run", "--prompt", "a\udcff"], "--prompt: must be valid Unicode"),
        (["run", "--prompt", "a" * 300_000], "--prompt: has 300000 bytes"),
        (["run", "--prompt", "a", "--repo", ""], "--repo: must not be empty"),
        (["run", "--prompt", "a", "--capability", "Git!"], "--capability: 'Git!' is not a capability"),
        (["run", "--prompt", "a", "--priority", "urgent"], "--priority"),
        (["run", "--prompt", "a", "--timeout-s", "1.5"], "--timeout-s: '1.5' is not a whole number"),
        (["run", "--prompt", "a", "--capabilities", "git,"], "--capabilities: '' is not a capability"),
        (["run", "--prompt", "a", "--queue-timeout-s", "soon"], "--queue-timeout-s: 'soon' is not a whole number"),
        (["run", "--prompt", "a", "--no-output-timeout-s", "0"], "--no-output-timeout-s: '0' is not"),
        (["run", "--prompt", "a", "--not-before", "tomorrow"], "--not-before: 'tomorrow' is not a time"),
        (
            ["run", "--prompt", "a", "--not-before", "2030-01-31T08:30"],
            "--not-before: '2030-01-31T08:30' has no time zone",
        ),
        (["run", "--prompt", "a", "--retry", "0"], "--retry: '0' is not a whole number of at least 1"),
        (
            ["run", "--prompt", "a", "--retry-on", "agent,weather"],
            "--retry-on: 'weather' is not one of: infrastructure",
        ),
        (["run", "--prompt", "a", "--concurrency-key", " "], "--concurrency-key: must not be empty"),
        (["run", "--prompt", "a", "--concurrency-limit", "-1"], "--concurrency-limit"),
        (["estimate", "--capability", "Git!"], "--capability: 'Git!' is not a capability"),
        (["estimate", "--priority", "urgent"], "--priority"),
        (["retry", "job_1", "--idempotency-key", ""], "--idempotency-key"),
        (["run", "--prompt", "a", "--max-turns", "0"], "--max-turns: '0' is not a whole number of at least 1"),
        (["run", "--prompt", "a", "--idempotency-key", "a\nb"], "--idempotency-key"),
        (["run", "--prompt", "a", "--give-up-after", "-1"], "--give-up-after"),
        (["run", "--prompt", "a", "--give-up-after", "soon"], "--give-up-after: 'soon' is not a number of seconds"),
        (["jobs", "--status", "lost"], "--status"),
        (["jobs", "--limit", "0"], "--limit"),
        (["follow"], "ID"),
        (["follow", "../jobs"], "'../jobs' is not a job id"),
        (["follow", "job_1", "--after", "x"], "--after"),
        (["show", ""], "is not a job id"),
        (["jobs", "--lim", "5"], "--lim"),
    ],
)
def test_an_invalid_option_is_refused_by_name(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(argv)
    assert ended.value.code == ExitCode.USAGE
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("code", list(ExitCode))
def test_the_help_names_every_exit_code(code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(["--help"])
    assert f"\n  {code:<3}  " in capsys.readouterr().out
