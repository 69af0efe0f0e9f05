from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "myctobot.tenants"
    label = "tenants"

    def ready(self) -> None:
        # Importing registers the extension with the schema generator.
        from myctobot.tenants import openapi  # noqa: F401  # for what importing it does
