"""What runs on a shard. No Django, no database, no tenant's data but that of its running jobs."""

VERSION = "0.1.0"
