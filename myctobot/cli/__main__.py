"""``myctobot``: starts, watches and cancels jobs from a terminal. The exit codes are in ``errors.py``."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from myctobot.cli.api import Api
from myctobot.cli.commands import COMMANDS, Console
from myctobot.cli.config import read_config
from myctobot.cli.errors import CliError, ExitCode
from myctobot.cli.options import read_options
from myctobot.cli.terminal import Line, Style, Terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Not every locale has all the characters that agents use.
            stream.reconfigure(errors="replace")
    talk = Terminal(sys.stderr, os.environ, plain_width=None)
    console = Console(sys.stdout, Terminal(sys.stdout, os.environ, plain_width=None), talk)
    try:
        return _run(console, list(sys.argv[1:] if argv is None else argv))
    except CliError as error:
        first, *more = str(error).splitlines()
        talk.show_all(Line(line, Style.RED) for line in (f"myctobot: {first}", *more))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OUTPUT_CLOSED


def _run(console: Console, argv: list[str]) -> int:
    options = read_options(argv)
    with Api(read_config(os.environ, options.url), console.tell) as api:
        return COMMANDS[options.command](api, console, options)


if __name__ == "__main__":
    sys.exit(main())
