"""Command ``myctobot``, which starts, watches and cancels jobs; ``errors.py`` has its exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from myctobot.cli.api import Api
from myctobot.cli.commands import COMMANDS, CommandOutput
from myctobot.cli.config import read_config
from myctobot.cli.errors import CliError, ExitCode
from myctobot.cli.options import read_options
from myctobot.cli.terminal import OutputLine, Style, Terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A locale may lack characters that agents use.
            stream.reconfigure(errors="replace")
    messages = Terminal(sys.stderr, os.environ, plain_width=None)
    console = CommandOutput(sys.stdout, Terminal(sys.stdout, os.environ, plain_width=None), messages)
    try:
        return _run(console, list(sys.argv[1:] if argv is None else argv))
    except CliError as error:
        first, *more = str(error).splitlines()
        messages.show_all(OutputLine(line, Style.RED) for line in (f"myctobot: {first}", *more))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Redirect the output, because Python would report the closed pipe again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OUTPUT_CLOSED


def _run(console: CommandOutput, argv: list[str]) -> int:
    options = read_options(argv)
    with Api(read_config(os.environ, options.url), console.notify) as api:
        return COMMANDS[options.command](api, console, options)


if __name__ == "__main__":
    sys.exit(main())
