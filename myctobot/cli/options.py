"""The command line: commands, options, and what their values may be."""

from __future__ import annotations

import argparse
import re
from typing import Final, TypeAlias

from jobs.contract import MAX_PROMPT_BYTES, JobStatus, is_slug
from myctobot.cli import __version__
from myctobot.cli.following import GIVE_UP_AFTER_S

CAPABILITIES: Final = ("git", "filesystem")
PRIORITIES: Final = ("high", "normal", "batch")
LIST_LIMIT: Final = 20

_DESCRIPTION: Final = "Start, watch and cancel jobs of a MyCTOBot server. Uses its public API and event stream only."
_EPILOG: Final = """\
configuration, by environment variables or by a file:
  MYCTOBOT_URL           the server, such as https://myctobot.example.com (default: http://127.0.0.1:8000)
  MYCTOBOT_API_KEY       the key; MYCTOBOT_API_KEY_FILE names a file that holds it
  MYCTOBOT_CONFIG        the file (default: $XDG_CONFIG_HOME/myctobot/config.toml, or ~/.config/…), with
                           url = "https://…"
                           api_key = "mctb_…"     or     api_key_file = "…"

exit codes:
  0    done; of a followed job: it completed
  1    the followed job failed
  2    the options or the configuration are wrong, or the server refused the request
  3    the followed job was cancelled
  4    the server could not be reached, or the stream was lost
  130  interrupted; a job that was started or followed goes on
  141  whoever read the output closed it
"""


def read_options(argv: list[str]) -> argparse.Namespace:
    """Read the command line; one that is wrong ends the program with exit code 2, as argparse does it."""
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
    for add in (_add_run, _add_jobs, _add_follow, _add_show, _add_cancel, _add_retry):
        # The same options are taken behind the command, where they are not allowed to undo those before it.
        _add_common(add(commands), argparse.SUPPRESS, argparse.SUPPRESS)
    return parser.parse_args(argv)


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_common(parser: argparse.ArgumentParser, no_url: str | None, no_json: bool | str) -> None:
    parser.add_argument("--url", type=text, default=no_url, metavar="URL", help="the server; wins over MYCTOBOT_URL")
    parser.add_argument(
        "--json",
        action="store_true",
        default=no_json,
        help="print what the API sent as JSON; of a followed job one event a line",
    )


def _command(commands: _Commands, name: str, summary: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.", allow_abbrev=False
    )


def _add_run(commands: _Commands) -> argparse.ArgumentParser:
    parser = _command(commands, "run", "start a job")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", type=text, help="what the agent is to do")
    prompt.add_argument("--prompt-file", metavar="FILE", help="a file that says so; - reads it from standard input")
    parser.add_argument("--repo", type=text, metavar="URL", help="the repository: https://… or ssh://…")
    parser.add_argument("--branch", type=text, help="the branch to push (default: myctobot/<job id>)")
    parser.add_argument("--base-branch", type=text, metavar="BRANCH", help="where to start (default: the repository's)")
    parser.add_argument(
        "--capability",
        type=capability,
        action="append",
        metavar="NAME",
        help=f"what the agent needs; give it once for each (default: {' and '.join(CAPABILITIES)})",
    )
    _add_secrets(parser)
    parser.add_argument(
        "--issue-key", type=text, metavar="KEY", help="makes it the ticket of that key, such as PROJ-123"
    )
    parser.add_argument("--instructions", type=text, metavar="TEXT", help="more for the agent to mind")
    parser.add_argument("--priority", choices=PRIORITIES, help="(default: normal)")
    parser.add_argument("--timeout-s", type=whole_number, metavar="N", help="seconds that one attempt may take")
    parser.add_argument("--max-turns", type=whole_number, metavar="N", help="turns that the agent may take")
    parser.add_argument(
        "--idempotency-key",
        type=idempotency_key,
        metavar="KEY",
        help="two runs with one key start one job (default: a random one, for the tries of this run)",
    )
    _add_following(parser, "--follow", "watch the job to its end")
    return parser


def _add_jobs(commands: _Commands) -> argparse.ArgumentParser:
    parser = _command(commands, "jobs", "list jobs, newest first")
    parser.add_argument("--status", choices=[status.value for status in JobStatus], help="only those")
    parser.add_argument(
        "--limit", type=whole_number, default=LIST_LIMIT, metavar="N", help=f"how many at most (default: {LIST_LIMIT})"
    )
    return parser


def _add_follow(commands: _Commands) -> argparse.ArgumentParser:
    parser = _add_job(_command(commands, "follow", "watch a job to its end, from its first event on"))
    parser.add_argument("--after", type=seq, default=0, metavar="SEQ", help="begin behind this event's number")
    _add_following(parser)
    return parser


def _add_show(commands: _Commands) -> argparse.ArgumentParser:
    return _add_job(_command(commands, "show", "show what is known of a job"))


def _add_cancel(commands: _Commands) -> argparse.ArgumentParser:
    parser = _add_job(_command(commands, "cancel", "cancel a job"))
    parser.add_argument("--wait", action="store_true", help="until it has ended and nothing of it runs any more")
    return parser


def _add_retry(commands: _Commands) -> argparse.ArgumentParser:
    parser = _add_job(_command(commands, "retry", "start a new job with the request of one that has ended"))
    _add_secrets(parser)
    _add_following(parser, "--follow", "watch the new job to its end")
    return parser


def _add_job(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("id", type=job_id, metavar="ID", help="of the job: job_…")
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
        help=f"seconds to try in vain to take up a broken stream (default: {GIVE_UP_AFTER_S:g})",
    )


# --- What values may be; argparse names the option before the sentence. ------------------------------------


def text(value: str) -> str:
    """Text that is not empty and can be sent."""
    if not value.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("must be well-formed Unicode text") from error
    if size > MAX_PROMPT_BYTES:
        raise argparse.ArgumentTypeError(f"has {size} bytes; at most {MAX_PROMPT_BYTES} are taken")
    return value


def capability(value: str) -> str:
    if not is_slug(value):
        raise argparse.ArgumentTypeError(f"'{value}' is no capability: a lower-case word such as git or playwright")
    return value


def job_id(value: str) -> str:
    # It becomes a part of an address.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value):
        raise argparse.ArgumentTypeError(f"'{value}' is no job id; one reads like job_xaz43705kz4javmwz8xy")
    return value


def idempotency_key(value: str) -> str:
    if not (0 < len(value) <= 200 and value.isascii() and value.isprintable() and value == value.strip()):
        raise argparse.ArgumentTypeError("must have 1 to 200 printable ASCII characters, and no blank around them")
    return value


def whole_number(value: str) -> int:
    return _number(value, 1)


def seq(value: str) -> int:
    return _number(value, 0)


def _number(value: str, least: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 15 and int(value) >= least):
        raise argparse.ArgumentTypeError(f"'{value}' is not a whole number of at least {least}")
    return int(value)


def seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value):
        raise argparse.ArgumentTypeError(f"'{value}' is not a number of seconds, such as 90")
    return float(value)
