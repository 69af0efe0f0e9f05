from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "myctobot.accounts"
    label = "accounts"

    def ready(self) -> None:
        # Importing connects the receiver of logins.
        from myctobot.accounts import backend  # noqa: F401  # for what importing it does
