"""Views of the web console."""
