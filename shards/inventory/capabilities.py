"""Descriptions of the usual capabilities; pure.

Shards may offer any slug. Operators name it after the MCP server or tool that provides it.
"""

from __future__ import annotations

from typing import Final

DESCRIPTIONS: Final[dict[str, str]] = {
    "git": "Checks out the repository and pushes a branch at the end.",
    "filesystem": "Reads, writes and runs programs in its workspace.",
    "fetch": "Fetches pages and files from the web.",
    "browser": "Opens web pages in a browser.",
    "playwright": "Drives a real browser with Playwright: clicks, fills in forms, takes screenshots.",
    "database": "Queries a database that the shard offers.",
    "postgres": "Queries a PostgreSQL database that the shard offers.",
    "mysql": "Queries a MySQL database that the shard offers.",
    "sqlite": "Works with SQLite databases.",
    "redis": "Reads and writes a Redis that the shard offers.",
    "memory": "Keeps notes during the job.",
    "github": "Reads issues and pull requests on GitHub.",
    "jira": "Reads tickets in Jira.",
    "docker": "Builds and runs containers.",
    "node": "Has Node.js and npm.",
    "python": "Has Python and pip.",
}


def describe(slug: str) -> str:
    """Return a sentence about a capability."""
    return DESCRIPTIONS.get(slug) or f"Custom capability “{slug}” of your operators."
