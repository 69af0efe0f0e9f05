"""Git on a shard: hostile repositories, hostile agents, and a token that the runner sends to one host only."""
