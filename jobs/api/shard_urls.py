from django.urls import path

from jobs.api.shard_api import shard_api

urlpatterns = [path("<path:path>", shard_api, name="shard-api")]
