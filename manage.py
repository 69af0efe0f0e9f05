#!/usr/bin/env python
"""Django's command line for MyCTOBot."""

import os
import sys

from myctobot.contract import loading


def main() -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")
    loading.begin()
    if sys.argv[1:2] == ["up"]:
        from myctobot.stack.management.commands.up import Command

        loading.finish()
        # This process stays for as long as the stack, and takes 48 MB less without settings and models.
        Command().run_from_argv(sys.argv)
    else:
        from myctobot.command_line import CommandLine

        CommandLine(sys.argv).execute()


if __name__ == "__main__":
    main()
