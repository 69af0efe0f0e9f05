#!/usr/bin/env python
"""Django's command line for MyCTOBot."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")
    if sys.argv[1:2] == ["up"]:
        from myctobot.stack.management.commands.up import Command

        # This process stays for as long as the stack, and takes 48 MB less without settings and models.
        Command().run_from_argv(sys.argv)
    else:
        execute_from_command_line(sys.argv)
