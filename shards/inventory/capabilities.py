"""What a capability gives an agent, in one sentence. Pure.

Shards may offer any slug; operators name them after the MCP server or tool behind. These are the usual ones.
"""

from __future__ import annotations

from typing import Final

DESCRIPTIONS: Final[dict[str, str]] = {
    "git": "A checkout of the repository, and a branch pushed in the end.",
    "filesystem": "Reads, writes and runs programs in its workspace.",
    "fetch": "Fetches pages and files from the web.",
    "browser": "Opens web pages in a browser and looks at them.",
    "playwright": "Drives a real browser with Playwright: clicks, fills in forms, takes screenshots.",
    "database": "Queries a database that the shard offers.",
    "postgres": "Queries a PostgreSQL database that the shard offers.",
    "mysql": "Queries a MySQL database that the shard offers.",
    "sqlite": "Works with SQLite databases.",
    "redis": "Reads and writes a Redis that the shard offers.",
    "memory": "Keeps notes for the length of the job.",
    "github": "Reads issues and pull requests on GitHub.",
    "jira": "Reads tickets in Jira.",
    "docker": "Builds and runs containers.",
    "node": "Has Node.js and npm.",
    "python": "Has Python and pip.",
}


def describe(slug: str) -> str:
    """Say what a capability is good for."""
    return DESCRIPTIONS.get(slug) or f"What the operators of your shards offer as “{slug}”."
