"""Runner, a process that runs one attempt."""
