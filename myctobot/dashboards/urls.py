from django.urls import path
from django.views.generic import RedirectView

from myctobot.dashboards.views import (
    account,
    callbacks,
    estimate,
    jobs,
    kept_work,
    repository_policies,
    stored_secrets,
)

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="console-jobs")),
    path("login/", account.login, name="login"),
    path("logout/", account.logout, name="logout"),
    path("tenant/", account.choose_tenant, name="console-tenant"),
    path("secrets/", stored_secrets.secret_list, name="console-secrets"),
    path("secrets/<str:name>/", stored_secrets.secret_detail, name="console-secret"),
    path("secrets/<str:name>/remove/", stored_secrets.secret_remove, name="console-secret-remove"),
    path("repository-policies/", repository_policies.policy_list, name="console-policies"),
    path("repository-policies/<int:policy_id>/", repository_policies.policy_detail, name="console-policy"),
    path(
        "repository-policies/<int:policy_id>/remove/", repository_policies.policy_remove, name="console-policy-remove"
    ),
    path("jobs/", jobs.job_list, name="console-jobs"),
    path("jobs/new/", jobs.job_new, name="console-job-new"),
    path("jobs/estimate/", estimate.job_estimate, name="console-estimate"),
    path("jobs/<str:job_id>/", jobs.job_detail, name="console-job"),
    path("jobs/<str:job_id>/header/", jobs.job_header, name="console-job-header"),
    path("jobs/<str:job_id>/cancel/", jobs.job_cancel, name="console-job-cancel"),
    path(
        "jobs/<str:job_id>/callbacks/<str:callback_id>/resend/",
        callbacks.callback_resend,
        name="console-callback-resend",
    ),
    path("jobs/<str:job_id>/retry/", jobs.job_retry, name="console-job-retry"),
    path("jobs/<str:job_id>/push/", kept_work.job_push, name="console-job-push"),
]
