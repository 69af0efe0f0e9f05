"""The command line client: the public API and its event stream, seen from a terminal. It knows no Django."""

__version__ = "0.1.0"
