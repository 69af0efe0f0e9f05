"""Tenants, jobs, shards and settings that calls of the API find: at least one of each kind and state."""

from __future__ import annotations

from django.conf import settings

from jobs.callbacks.models import Callback
from jobs.lifecycle.cancel import cancel
from jobs.models import Job
from myctobot.tenants.models import RepositoryPolicy, Tenant
from myctobot.tenants.secrets import store_secret
from shards.models import Shard, ShardState, ShardTemplate
from tests.factories.control_plane import bound_to_repository, make_job, make_shard, make_tenant, running_job
from tests.factories.kept_work import job_with_work

SECRETS = ("one", "two", "three")
SHARDS = ("one", "spare", "new", "drained", "pooled")


def make_api_world() -> Tenant:
    """Store everything, and return the tenant that the jobs and the secret belong to."""
    tenant = make_tenant()
    _, key = make_shard(SHARDS[0], slots=8)
    for name in SECRETS:
        store_secret(tenant, name, "ghp_0123456789", bound_to_repository())
    RepositoryPolicy.objects.create(tenant=tenant, repository="git.example.com/user/one")
    job_with_work(tenant, key)
    _, ended = running_job(tenant, key)
    assert ended.events("first", "second").status_code == 200
    assert ended.finish().status_code == 200
    _, running = running_job(tenant, key)
    assert running.events("first", "second").status_code == 200
    cancel(tenant, make_job(tenant, callback_url="https://ci.example.com/hook").public_id)
    make_job(tenant, "git", "filesystem")
    # These come last, so that the jobs above run on the first shard.
    make_shard(SHARDS[1])
    Shard.objects.filter(name=SHARDS[1]).update(is_spare=True)
    make_shard(SHARDS[2], state=ShardState.REQUESTED, heard=False)
    make_shard(SHARDS[3], state=ShardState.DRAINING)
    make_shard(SHARDS[4], pool="blue")
    ShardTemplate.objects.create(name="plain", capabilities=["git"])
    return tenant


def names_by_format() -> dict[str, list[str]]:
    """Return names of what exists, by the format that the API's document gives to them."""
    return {
        "callback": list(Callback.objects.values_list("public_id", flat=True)),
        "capability": ["filesystem", "git"],
        "job": list(Job.objects.order_by("pk").values_list("public_id", flat=True)),
        "pool": ["blue"],
        "provider": sorted(settings.PROVIDERS),
        "secret": list(SECRETS),
        "shard": list(SHARDS),
        "shard-class": sorted(set(Shard.objects.values_list("shard_class", flat=True))),
        "shard-template": ["plain"],
        "tenant": ["acme"],
    }
