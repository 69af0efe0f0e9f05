from importlib import import_module

from django.apps import AppConfig


class ShardsConfig(AppConfig):
    name = "shards"

    def ready(self) -> None:
        # Load the models that are outside of shards/models.
        for folder in ("autoscaling", "metrics", "monitoring", "operations"):
            import_module(f"shards.{folder}.models")
