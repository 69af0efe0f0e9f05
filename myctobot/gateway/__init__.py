"""LLM gateway, which runs as a separate process."""
