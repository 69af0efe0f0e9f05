from django.apps import AppConfig


class DashboardsConfig(AppConfig):
    name = "myctobot.dashboards"
    verbose_name = "Web console"
