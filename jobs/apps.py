from importlib import import_module

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        # Models outside ``jobs.models``.
        import_module("jobs.callbacks.models")
