from django.urls import path

from shards.api import views

urlpatterns = [path("heartbeat", views.Heartbeat.as_view(), name="shard-heartbeat")]
