"""The four types of shard that everybody starts with."""

from __future__ import annotations

from typing import Any

from django.db import migrations

_GIT = {"git": {"command": "/opt/claude-shard/venv/bin/mcp-server-git", "args": [], "env": {}}}
_PLAYWRIGHT = {
    "playwright": {
        "command": "/opt/claude-shard/npm/bin/node",
        "args": [
            "/opt/claude-shard/npm/bin/playwright-mcp",
            "--headless",
            "--isolated",
            "--browser=chromium",
            "--executable-path=/usr/bin/chromium-headless-shell",
            # The agent's sandbox is the browser's too.
            "--no-sandbox",
            # Not into the workspace, or snapshots of pages would be committed.
            "--output-dir=/tmp/playwright",
        ],
        "env": {},
        "capabilities": ["browser", "playwright"],
    }
}
# Operators add DB_URL for their shards: docs/shards.md.
_DATABASE = {
    "database": {
        "command": "/opt/claude-shard/venv/bin/mcp-alchemy",
        "args": [],
        # A guard against accidents; what the agent may do is the business of the role that it logs in as.
        "env": {"PGOPTIONS": "-c default_transaction_read_only=on -c statement_timeout=60s"},
        "capabilities": ["database", "postgres"],
    }
}

# Name, what for, capabilities, MCP servers, CPUs, memory in MB.
TEMPLATES = [
    ("general", "Works on a repository.", ["filesystem", "git"], _GIT, 1, 512),
    (
        "playwright",
        "Works on a repository and drives a browser.",
        ["browser", "filesystem", "git", "playwright"],
        {**_GIT, **_PLAYWRIGHT},
        2,
        1024,
    ),
    (
        "database",
        "Works on a repository and queries a database.",
        ["database", "filesystem", "git", "postgres"],
        {**_GIT, **_DATABASE},
        1,
        512,
    ),
    (
        "full",
        "All of these.",
        ["browser", "database", "filesystem", "git", "playwright", "postgres"],
        {**_GIT, **_PLAYWRIGHT, **_DATABASE},
        4,
        2048,
    ),
]


def make_templates(apps: Any, schema_editor: Any) -> None:
    template = apps.get_model("shards", "ShardTemplate")
    for name, description, capabilities, servers, cpus, memory_mb in TEMPLATES:
        template.objects.get_or_create(
            name=name,
            defaults={
                "description": description,
                "shard_type": name,
                "capabilities": capabilities,
                "mcp_servers": servers,
                "image": name,
                "cpus": cpus,
                "memory_mb": memory_mb,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("shards", "0004_provisioning")]
    operations = [migrations.RunPython(make_templates, migrations.RunPython.noop)]
