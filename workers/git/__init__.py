"""Git on a shard: hostile repositories and hostile agents, one token that leaves the runner for one host only."""
