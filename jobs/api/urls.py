from django.urls import path

from jobs.api import views
from jobs.api.estimate_views import JobEstimate

urlpatterns = [
    path("jobs", views.JobList.as_view(), name="jobs"),
    path("jobs/estimate", JobEstimate.as_view(), name="job-estimate"),
    path("jobs/<str:job_id>", views.JobDetail.as_view(), name="job"),
    path("jobs/<str:job_id>/cancel", views.JobCancel.as_view(), name="job-cancel"),
    path("jobs/<str:job_id>/retry", views.JobRetry.as_view(), name="job-retry"),
    path("jobs/<str:job_id>/events", views.JobEvents.as_view(), name="job-events"),
    path("jobs/<str:job_id>/download", views.JobDownload.as_view(), name="job-download"),
    path("jobs/<str:job_id>/ticket", views.JobTicket.as_view(), name="job-ticket"),
    path("jobs/<str:job_id>/stream", views.JobStream.as_view(), name="job-stream"),
]
