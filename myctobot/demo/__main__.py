"""``make demo``: a real agent fixes a failing test on a local shard, before your eyes. Then all stops.

Exit codes: 0 the fix was pushed and proven, 1 something failed (and was named), 130 interrupted.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

from myctobot.cli.terminal import Line, Style, Terminal
from myctobot.demo.errors import DemoFailed
from myctobot.demo.folder import demo_folder
from myctobot.demo.options import Options, read_options
from myctobot.demo.stack import DemoStack, running
from myctobot.demo.story import Story, shown

INTERRUPTED = 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(terminal: Terminal, options: Options) -> int:
    """Tell the story, stop everything, and return the exit code."""
    with demo_folder(options.root) as folder:
        stack = DemoStack(folder, options.environ)
        try:
            with running(stack):
                _tell(Story(terminal, options, folder, stack), terminal, stack)
        except DemoFailed as error:
            terminal.heading("The demo failed")
            terminal.say(str(error), Style.RED)
            terminal.say("Everything is stopped.", Style.DIM)
            return 1
        except KeyboardInterrupt:
            terminal.say("interrupted; everything is stopped", Style.YELLOW)
            return INTERRUPTED
    terminal.say("stopped; nothing is left running", Style.DIM)
    return 0


def _tell(story: Story, terminal: Terminal, stack: DemoStack) -> None:
    try:
        story.tell(story.prepare())
    except DemoFailed:
        # Now: the stack's end will write enough to push the reason out of sight.
        terminal.heading(f"The last lines of {shown(stack.log)}")
        terminal.show_all(Line(line, Style.DIM, 2) for line in stack.last_lines())
        raise
    finally:
        terminal.say("")
        terminal.say("stopping the stack …", Style.DIM)


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Not every locale has all the characters that agents and this demo use.
        sys.stdout.reconfigure(errors="replace")
    terminal = Terminal(sys.stdout, os.environ)
    try:
        terminal.show(Line("A coding agent fixes a failing test on a local shard, and pushes a branch.", Style.BOLD))
        return run(terminal, read_options(os.environ))
    except DemoFailed as error:
        terminal.say(str(error), Style.RED)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output left; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        terminal.say(f"{error.filename or 'This machine'}: {error.strerror}", Style.RED)
        return 1


if __name__ == "__main__":
    sys.exit(main())
