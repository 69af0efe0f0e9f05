"""Demo of `make demo`, in which an agent fixes a failing test on a local stack."""
