"""Executors of a task: the real agent, and the fake one that is shipped with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from myctobot.contract.direct_addresses import DirectAddress
from workers.config import ShardConfig
from workers.executors import mcp
from workers.executors.base import Executor


def create_executor(config: ShardConfig) -> Executor:
    """Return the executor that the shard's configuration names."""
    # Importing the SDK takes a second and 60 MB, so import it only when it is used.
    if config.executor == "scripted":
        from workers.executors.scripted import Scripted

        return Scripted()
    from workers.executors.claude_code import ClaudeCode

    author = (config.git.author_name, config.git.author_email)
    return ClaudeCode(config.mcp_servers, cli=config.cli_path, author=author)


def read_only_paths(config: ShardConfig, capabilities: Iterable[str]) -> tuple[Path, ...]:
    """Return the shard's paths that the MCP servers for these capabilities read."""
    servers = mcp.select_servers(config.mcp_servers, capabilities)
    return tuple(sorted({path for server in servers.values() for path in mcp.paths_needed(server.command)}))


def direct_addresses(config: ShardConfig, capabilities: Iterable[str]) -> tuple[DirectAddress, ...]:
    """Return the servers that an agent with these capabilities reaches directly: the shard's, and its MCP servers'."""
    servers = mcp.select_servers(config.mcp_servers, capabilities)
    found = {address for server in servers.values() for address in server.addresses}
    return tuple(sorted(found | set(config.agent_addresses)))
