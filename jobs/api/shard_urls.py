from django.urls import path

from jobs.api import shard_views as views

urlpatterns = [
    path("jobs/<str:job_id>/claim", views.Claim.as_view(), name="shard-claim"),
    path("jobs/<str:job_id>/events", views.Events.as_view(), name="shard-events"),
    path("jobs/<str:job_id>/finish", views.Finish.as_view(), name="shard-finish"),
]
