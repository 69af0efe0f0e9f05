"""``manage.py egress_proxy``: run the filtering proxy of the containers' network."""

from __future__ import annotations

import os
import shutil
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from myctobot.errors import InvalidRequest
from shards.providers.lxc.commands import ENVIRONMENT
from shards.providers.lxc.egress import configuration, filter_text
from shards.providers.lxc.host import host_from_settings
from shards.providers.lxc.network import PROXY_USER, proxy_user


class Command(BaseCommand):
    help = (
        "Run tinyproxy on the bridge's address for the hosts in EGRESS_ALLOWED_HOSTS. It runs in the foreground, so "
        "use a supervisor, and restart it after a change of the setting. Run 'manage.py lxc setup' first."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        program = shutil.which("tinyproxy", path=ENVIRONMENT["PATH"])
        if program is None or proxy_user() is None:
            raise CommandError(
                "tinyproxy is missing; install the package tinyproxy-bin, then run 'manage.py lxc setup'."
            )
        if os.geteuid() != 0:
            raise CommandError(f"Start this as root; the proxy then switches to the user {PROXY_USER}.")
        try:
            host = host_from_settings()
        except ImproperlyConfigured as error:
            raise CommandError(f"{error}.") from error
        folder = host.path / "egress"
        # The proxy's user reads the filter; neither file is secret.
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        names, config = folder / "allowed", folder / "tinyproxy.conf"
        try:
            names.write_text(filter_text(settings.EGRESS_ALLOWED_HOSTS), encoding="utf-8")
        except InvalidRequest as error:
            raise CommandError(error.fields["EGRESS_ALLOWED_HOSTS"][0]) from error
        text = configuration(host.address, host.egress_port, host.network, str(names), PROXY_USER)
        config.write_text(text, encoding="utf-8")
        os.execve(program, [program, "-d", "-c", str(config)], {**ENVIRONMENT})  # noqa: S606  # this command becomes the proxy
