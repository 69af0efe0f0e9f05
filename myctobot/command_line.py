"""Django's command line, which collects no garbage before the command is loaded."""

from __future__ import annotations

from django.core.management import BaseCommand, ManagementUtility

from myctobot.contract import loading


class CommandLine(ManagementUtility):
    """Parser of the arguments that finds and runs a command. Call ``loading.begin`` before."""

    def fetch_command(self, subcommand: str) -> BaseCommand:
        command = super().fetch_command(subcommand)
        # The settings and models are loaded by now.
        loading.finish()
        return command
