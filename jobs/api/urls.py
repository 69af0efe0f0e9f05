from django.urls import path

from jobs.api import callback_views, preview_views, queue_views, repository_views, views, work_views
from jobs.api.estimate_views import JobEstimate
from shards.api import suspension_views

urlpatterns = [
    path("jobs", views.JobList.as_view(), name="jobs"),
    path("jobs/estimate", JobEstimate.as_view(), name="job-estimate"),
    path("jobs/<str:job_id>", views.JobDetail.as_view(), name="job"),
    path("jobs/<str:job_id>/cancel", views.JobCancel.as_view(), name="job-cancel"),
    path("jobs/<str:job_id>/retry", views.JobRetry.as_view(), name="job-retry"),
    path("jobs/<str:job_id>/push", work_views.JobPush.as_view(), name="job-push"),
    path("jobs/<str:job_id>/bundle", work_views.JobBundle.as_view(), name="job-bundle"),
    path("jobs/<str:job_id>/patch", work_views.JobPatch.as_view(), name="job-patch"),
    path("queues", queue_views.Queues.as_view(), name="queues"),
    path("queues/pause", suspension_views.QueuePause.as_view(), name="queue-pause"),
    path("queues/resume", suspension_views.QueueResume.as_view(), name="queue-resume"),
    path("shards/preview", preview_views.ShardPreview.as_view(), name="shard-preview"),
    path("shards/<str:name>/drain", suspension_views.ShardDrain.as_view(), name="shard-drain"),
    path("shards/<str:name>/resume", suspension_views.ShardResume.as_view(), name="shard-resume"),
    path("suspensions", suspension_views.Suspensions.as_view(), name="suspensions"),
    path("repository-policies", repository_views.RepositoryPolicies.as_view(), name="repository-policies"),
    path("callback-secret", callback_views.SigningSecret.as_view(), name="callback-secret"),
    path("jobs/<str:job_id>/callbacks", callback_views.JobCallbacks.as_view(), name="job-callbacks"),
    path(
        "jobs/<str:job_id>/callbacks/<str:callback_id>/resend",
        callback_views.CallbackResend.as_view(),
        name="job-callback-resend",
    ),
    path("jobs/<str:job_id>/events", views.JobEvents.as_view(), name="job-events"),
    path("jobs/<str:job_id>/download", views.JobDownload.as_view(), name="job-download"),
    path("jobs/<str:job_id>/ticket", views.JobTicket.as_view(), name="job-ticket"),
    path("jobs/<str:job_id>/stream", views.JobStream.as_view(), name="job-stream"),
]
