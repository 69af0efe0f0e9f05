from django.urls import path

from myctobot.dashboards.ops import views

urlpatterns = [
    path("", views.overview, name="ops"),
    path("queues/", views.queue_list, name="ops-queues"),
    path("operations/", views.operation_list, name="ops-operations"),
    path("decisions/", views.decision_list, name="ops-decisions"),
    path("shards/<str:name>/", views.shard_jobs, name="ops-shard"),
    path("flower-auth", views.flower_auth, name="ops-flower-auth"),
]
