"""Command line of the client: commands, options and checks of their values."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from typing import Final, TypeAlias

from myctobot.cli import __version__
from myctobot.cli.follow import GIVE_UP_AFTER_S
from myctobot.contract.jobs import JobStatus
from myctobot.contract.limits import MAX_PROMPT_BYTES
from myctobot.contract.names import is_slug

CAPABILITIES: Final = ("git", "filesystem")
PRIORITIES: Final = ("high", "normal", "batch")
RETRY_CAUSES: Final = ("infrastructure", "agent", "timeout")
LIST_LIMIT: Final = 20

_DESCRIPTION: Final = "Start, watch and cancel jobs of a MyCTOBot server. Uses its public API and event stream only."
_EPILOG: Final = """\
configuration, by environment variables or by a file:
  MYCTOBOT_URL           the server, such as https://myctobot.example.com (default: http://127.0.0.1:8000)
  MYCTOBOT_API_KEY       the key; MYCTOBOT_API_KEY_FILE names a file that contains it
  MYCTOBOT_CONFIG        the file (default: $XDG_CONFIG_HOME/myctobot/config.toml, or ~/.config/…), with
                           url = "https://…"
                           api_key = "mctb_…"     or     api_key_file = "…"

exit codes:
  0    done; of a followed job: it completed
  1    the followed job failed
  2    the options or the configuration are wrong, or the server refused the request
  3    the followed job was cancelled
  4    the server could not be reached, or the stream was lost
  130  interrupted; a job that was started or followed continues
  141  the reader of the output closed it
"""


def read_options(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; an error ends the program with exit code 2, as usual with argparse."""
    parser = argparse.ArgumentParser(
        prog="myctobot",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"myctobot {__version__}")
    _add_common(parser, None, False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for add in (_add_run, _add_estimate, _add_jobs, _add_follow, _add_show, _add_cancel, _add_retry):
        # Accept the same options after the command. SUPPRESS keeps their defaults from replacing values before it.
        _add_common(add(commands), argparse.SUPPRESS, argparse.SUPPRESS)
    return parser.parse_args(argv)


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_common(parser: argparse.ArgumentParser, no_url: str | None, no_json: bool | str) -> None:
    parser.add_argument("--url", type=text, default=no_url, metavar="URL", help="the server; precedes MYCTOBOT_URL")
    parser.add_argument(
        "--json",
        action="store_true",
        default=no_json,
        help="print the API's JSON; for a followed job, one event in each line",
    )


def _command(commands: _Commands, name: str, summary: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.", allow_abbrev=False
    )


def _add_run(commands: _Commands) -> argparse.ArgumentParser:
    parser = _command(commands, "run", "start a job")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", type=text, help="what the agent should do")
    prompt.add_argument("--prompt-file", metavar="FILE", help="a file with the prompt; - reads standard input")
    parser.add_argument("--repo", type=text, metavar="URL", help="the repository: https://… or ssh://…")
    parser.add_argument("--branch", type=text, help="the branch to push (default: myctobot/<job id>)")
    parser.add_argument(
        "--base-branch", type=text, metavar="BRANCH", help="the branch to start from (default: the repository's)"
    )
    _add_needs(parser)
    _add_secrets(parser)
    parser.add_argument("--issue-key", type=text, metavar="KEY", help="the ticket to implement, such as PROJ-123")
    parser.add_argument("--instructions", type=text, metavar="TEXT", help="additional instructions for the agent")
    _add_bounds(parser)
    _add_repeats(parser)
    _add_idempotency_key(parser)
    _add_following(parser, "--follow", "watch the job to its end")
    return parser


def _add_needs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capability",
        type=capability,
        action="append",
        metavar="NAME",
        help=f"a capability that the agent needs; may be repeated (default: {' and '.join(CAPABILITIES)})",
    )
    parser.add_argument(
        "--capabilities",
        dest="capability",
        type=capabilities,
        action="extend",
        metavar="NAMES",
        help="several capabilities at once: git,filesystem",
    )
    parser.add_argument("--priority", choices=PRIORITIES, help="the priority (default: normal)")


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout-s", type=whole_number, metavar="N", help="seconds that one attempt may take")
    parser.add_argument(
        "--no-output-timeout-s", type=whole_number, metavar="N", help="seconds that the agent may write nothing"
    )
    parser.add_argument(
        "--queue-timeout-s", type=whole_number, metavar="N", help="seconds that the job may wait for a shard"
    )
    parser.add_argument("--max-turns", type=whole_number, metavar="N", help="turns that the agent may take")
    parser.add_argument(
        "--not-before",
        type=moment,
        metavar="TIME",
        help="the earliest start, such as 2030-01-31T08:30Z or 2030-01-31T08:30+01:00",
    )


def _add_repeats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retry",
        type=whole_number,
        metavar="N",
        help="the maximum number of attempts, including the first (default: 2; 1 means no retry)",
    )
    parser.add_argument(
        "--retry-on",
        type=causes,
        metavar="CAUSES",
        help=f"the failures to retry, of {','.join(RETRY_CAUSES)} (default: infrastructure, those of a shard)",
    )
    parser.add_argument(
        "--concurrency-key",
        type=text,
        metavar="KEY",
        help="jobs with the same key wait for each other (default: jobs that push to the same branch do)",
    )
    parser.add_argument(
        "--concurrency-limit",
        type=whole_number,
        metavar="N",
        help="how many jobs with this key run at once (default: 1)",
    )


def _add_idempotency_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--idempotency-key",
        type=idempotency_key,
        metavar="KEY",
        help="calls with the same key start one job (default: a random key for the tries of this call)",
    )


def _add_estimate(commands: _Commands) -> argparse.ArgumentParser:
    parser = _command(commands, "estimate", "show when a job would start, without starting it")
    _add_needs(parser)
    return parser


def _add_jobs(commands: _Commands) -> argparse.ArgumentParser:
    parser = _command(commands, "jobs", "list jobs, newest first")
    parser.add_argument("--status", choices=[status.value for status in JobStatus], help="only jobs with this status")
    parser.add_argument(
        "--limit",
        type=whole_number,
        default=LIST_LIMIT,
        metavar="N",
        help=f"the maximum number of jobs (default: {LIST_LIMIT})",
    )
    return parser


def _add_follow(commands: _Commands) -> argparse.ArgumentParser:
    parser = _add_job(_command(commands, "follow", "watch a job from its first event to its end"))
    parser.add_argument("--after", type=seq, default=0, metavar="SEQ", help="begin after this event number")
    _add_following(parser)
    return parser


def _add_show(commands: _Commands) -> argparse.ArgumentParser:
    return _add_job(_command(commands, "show", "show a job's state and result"))


def _add_cancel(commands: _Commands) -> argparse.ArgumentParser:
    parser = _add_job(_command(commands, "cancel", "cancel a job"))
    parser.add_argument(
        "--wait", action="store_true", help="wait until the job has ended and none of its processes is left"
    )
    return parser


def _add_retry(commands: _Commands) -> argparse.ArgumentParser:
    parser = _add_job(_command(commands, "retry", "start a new job with the request of an ended one"))
    _add_secrets(parser)
    _add_idempotency_key(parser)
    _add_following(parser, "--follow", "watch the new job to its end")
    return parser


def _add_job(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("id", type=job_id, metavar="ID", help="the job's id: job_…")
    return parser


def _add_secrets(parser: argparse.ArgumentParser) -> None:
    for name, what in (("repo-token", "repository's token or key"), ("anthropic-key", "provider key")):
        parser.add_argument(
            f"--{name}-secret", type=text, metavar="NAME", help=f"the name under which the server keeps the {what}"
        )


def _add_following(parser: argparse.ArgumentParser, switch: str | None = None, what: str = "") -> None:
    if switch:
        parser.add_argument(switch, action="store_true", help=what)
    parser.add_argument(
        "--give-up-after",
        type=seconds,
        default=GIVE_UP_AFTER_S,
        metavar="S",
        help=f"seconds after which a stream that cannot be resumed is lost (default: {GIVE_UP_AFTER_S:g})",
    )


# --- Checks of values; argparse writes the option's name before the sentence. -------------------------------


def text(value: str) -> str:
    """Return a text that is not empty and can be sent."""
    if not value.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("must be valid Unicode text") from error
    if size > MAX_PROMPT_BYTES:
        raise argparse.ArgumentTypeError(f"has {size} bytes; at most {MAX_PROMPT_BYTES} are allowed")
    return value


def capability(value: str) -> str:
    if not is_slug(value):
        raise argparse.ArgumentTypeError(
            f"'{value}' is not a capability; write a lower-case word such as git or playwright"
        )
    return value


def capabilities(value: str) -> list[str]:
    return [capability(name) for name in value.split(",")]


def causes(value: str) -> list[str]:
    names = value.split(",")
    if unknown := next((name for name in names if name not in RETRY_CAUSES), None):
        raise argparse.ArgumentTypeError(f"'{unknown}' is not one of: {', '.join(RETRY_CAUSES)}")
    return sorted(set(names))


def moment(value: str) -> str:
    """Return a time with its zone."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{value}' is not a time; write one such as 2030-01-31T08:30Z") from error
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"'{value}' has no time zone; add Z for UTC, or an offset such as +01:00")
    return at.isoformat()


def job_id(value: str) -> str:
    # The id becomes a part of a URL.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value):
        raise argparse.ArgumentTypeError(f"'{value}' is not a job id; write one such as job_xaz43705kz4javmwz8xy")
    return value


def idempotency_key(value: str) -> str:
    if not (0 < len(value) <= 200 and value.isascii() and value.isprintable() and value == value.strip()):
        raise argparse.ArgumentTypeError("must have 1 to 200 printable ASCII characters, without spaces at its ends")
    return value


def whole_number(value: str) -> int:
    return _integer_from(value, 1)


def seq(value: str) -> int:
    return _integer_from(value, 0)


def _integer_from(value: str, minimum: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 15 and int(value) >= minimum):
        raise argparse.ArgumentTypeError(f"'{value}' is not a whole number of at least {minimum}")
    return int(value)


def seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value):
        raise argparse.ArgumentTypeError(f"'{value}' is not a number of seconds, such as 90")
    return float(value)
