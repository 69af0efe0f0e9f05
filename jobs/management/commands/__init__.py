"""Commands ``jobs`` and ``autoscale`` of ``manage.py``."""
