from importlib import import_module

from django.apps import AppConfig


class ShardsConfig(AppConfig):
    name = "shards"

    def ready(self) -> None:
        # Models that have a folder of their own.
        for folder in ("autoscaling", "history", "operations", "totals"):
            import_module(f"shards.{folder}.models")
