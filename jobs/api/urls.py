from django.urls import path

from jobs.api import callback_views, views
from jobs.api.estimate_views import JobEstimate

urlpatterns = [
    path("jobs", views.JobList.as_view(), name="jobs"),
    path("jobs/estimate", JobEstimate.as_view(), name="job-estimate"),
    path("jobs/<str:job_id>", views.JobDetail.as_view(), name="job"),
    path("jobs/<str:job_id>/cancel", views.JobCancel.as_view(), name="job-cancel"),
    path("jobs/<str:job_id>/retry", views.JobRetry.as_view(), name="job-retry"),
    path("callback-secret", callback_views.CallbackSecret.as_view(), name="callback-secret"),
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
