from django.urls import path

from shards.api import detail_views, pool_views, shard_views

urlpatterns = [
    path("shards", shard_views.Shards.as_view(), name="shards"),
    path("shards/<str:name>", shard_views.ShardDetail.as_view(), name="shard"),
    path("shards/<str:name>/test", detail_views.ShardTest.as_view(), name="shard-test"),
    path("shards/<str:name>/logs", detail_views.ShardLogs.as_view(), name="shard-logs"),
    path("shards/<str:name>/samples", detail_views.ShardSamples.as_view(), name="shard-samples"),
    path("shards/<str:name>/operations", detail_views.ShardOperations.as_view(), name="shard-operations"),
    path("shards/<str:name>/assignments", detail_views.ShardAssignments.as_view(), name="shard-assignments"),
    path("shards/<str:name>/enrolment", detail_views.ShardEnrolment.as_view(), name="shard-enrolment"),
    path("shards/<str:name>/activate", detail_views.ShardActivation.as_view(), name="shard-activate"),
    path("shard-templates", pool_views.ShardTemplates.as_view(), name="shard-templates"),
    path("pools", pool_views.Pools.as_view(), name="pools"),
    path("audit", pool_views.AuditLog.as_view(), name="audit"),
]
