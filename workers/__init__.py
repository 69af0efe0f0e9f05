"""Programs of a shard: no Django, no database, and no tenant data except that of its running jobs."""

VERSION = "0.1.0"
