"""Command line client of the public API and its event stream, without Django."""

__version__ = "0.1.0"
