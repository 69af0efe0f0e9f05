"""Commands and state changes of jobs."""
