"""Jobs: their queue, life cycle, logs and interfaces."""
