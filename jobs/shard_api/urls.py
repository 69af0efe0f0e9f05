from django.urls import path

from jobs.shard_api.app import shard_api

urlpatterns = [path("<path:path>", shard_api, name="shard-api")]
