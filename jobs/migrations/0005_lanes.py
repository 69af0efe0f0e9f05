"""Jobs that wait already get their lane and their hold."""

from django.db import migrations

_FILL = """
    UPDATE jobs_job SET lane = left(array_to_string(capabilities, '+'), 400), ready_at = created_at;
    UPDATE jobs_job SET hold = 'time', ready_at = not_before WHERE status = 'queued' AND not_before > now();
    UPDATE jobs_job SET hold = 'sent' WHERE status = 'queued'
        AND EXISTS (SELECT 1 FROM jobs_attempt WHERE job_id = jobs_job.id AND state IN ('sent', 'running'));
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_routing")]

    operations = [migrations.RunSQL(_FILL, migrations.RunSQL.noop, elidable=True)]
