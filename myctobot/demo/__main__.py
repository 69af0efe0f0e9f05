"""Command of ``make demo``: a real agent fixes a failing test on a local stack, which is stopped afterwards.

Exit codes: 0 the fix was pushed and its test passes, 1 the demo failed and said why, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

from myctobot.cli.terminal import OutputLine, Style, Terminal
from myctobot.demo.errors import DemoFailed
from myctobot.demo.folder import demo_folder
from myctobot.demo.options import DemoOptions, read_options
from myctobot.demo.stack import DemoStack, running
from myctobot.demo.story import Story, display_path

INTERRUPTED = 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(terminal: Terminal, options: DemoOptions) -> int:
    """Notify the story, stop everything, and return the exit code."""
    with demo_folder(options.root) as folder:
        stack = DemoStack(folder, options.environ, allow_unsandboxed=options.allow_unsandboxed)
        try:
            with running(stack):
                _run_story(Story(terminal, options, folder, stack), terminal, stack)
        except DemoFailed as error:
            terminal.heading("The demo failed")
            terminal.say(str(error), Style.RED)
            terminal.say("Everything is stopped.", Style.DIM)
            return 1
        except KeyboardInterrupt:
            terminal.say("Interrupted; everything is stopped.", Style.YELLOW)
            return INTERRUPTED
    terminal.say("Everything is stopped.", Style.DIM)
    return 0


def _run_story(story: Story, terminal: Terminal, stack: DemoStack) -> None:
    try:
        story.run_job(story.prepare())
    except DemoFailed:
        # Print the log now, because the end of the stack will add many lines to it.
        terminal.heading(f"The last lines of {display_path(stack.log)}")
        terminal.show_all(OutputLine(line, Style.DIM, 2) for line in stack.last_lines())
        raise
    finally:
        terminal.say("")
        terminal.say("Stopping the stack …", Style.DIM)


def main() -> int:
    """Run the demo and return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A locale may lack characters that agents and this demo use.
        sys.stdout.reconfigure(errors="replace")
    terminal = Terminal(sys.stdout, os.environ)
    try:
        terminal.show(
            OutputLine("A coding agent fixes a failing test on a local shard and pushes a branch.", Style.BOLD)
        )
        return run(terminal, read_options(os.environ))
    except DemoFailed as error:
        terminal.say(str(error), Style.RED)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Redirect the output, because Python would report the closed pipe again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        terminal.say(f"{error.filename or 'This machine'}: {error.strerror}", Style.RED)
        return 1


if __name__ == "__main__":
    sys.exit(main())
