"""Settings of the control plane; every value that varies comes through ``env.py``."""

from __future__ import annotations

import secrets
from typing import Any

import django_stubs_ext
from celery.schedules import schedule
from kombu import Exchange, Queue

from myctobot.env import (
    BASE_DIR,
    HOME,
    choice,
    endpoint,
    env,
    first_address,
    networks,
    token,
    url,
    webhook_secret,
    whole_number,
)  # fmt: skip
from myctobot.logging import logging_config
from myctobot.settings.admin_theme import PANEL

django_stubs_ext.monkeypatch()

EMBEDDED: bool = env.bool("EMBEDDED", default=False)
DEBUG: bool = env.bool("DEBUG", default=False)
# Without a key of its own a process gets a random one: safe, and sessions end with the process.
SECRET_KEY: str = env.str("SECRET_KEY", default="") or secrets.token_urlsafe(50)
# Fernet keys, newest first: the first encrypts, all decrypt.
SECRETS_KEYS: list[str] = env.list("SECRETS_KEYS", default=[])
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
MYCTOBOT_HOME = HOME

CONTROL_URL = url("CONTROL_URL", "http://127.0.0.1:8000")
GATEWAY_URL = url("GATEWAY_URL", "http://127.0.0.1:8001")
GATEWAY_UPSTREAM = choice("GATEWAY_UPSTREAM", ("scripted", "anthropic"), "anthropic")
GATEWAY_PLAYS: str = env.str("GATEWAY_PLAYS", default=str(BASE_DIR / "myctobot/gateway/plays"))
ANTHROPIC_BASE_URL = url("ANTHROPIC_BASE_URL", "https://api.anthropic.com")

# What a tenant's repository URL may look like. A shard checks again by its own configuration.
REPO_SCHEMES: list[str] = env.list("REPO_SCHEMES", default=["https", "ssh", *(["file"] if EMBEDDED else [])])
REPO_PRIVATE_HOSTS: list[str] = env.list("REPO_PRIVATE_HOSTS", default=[])

# Hosts of callbacks that may have private addresses, and certificates to trust there beside the usual ones.
CALLBACK_PRIVATE_HOSTS: list[str] = env.list("CALLBACK_PRIVATE_HOSTS", default=[])
CALLBACK_CA_FILE: str = env.str("CALLBACK_CA_FILE", default="")

# Capabilities whose effects may happen twice without harm: a job with no other is tried again when it is lost.
REPEATABLE_CAPABILITIES: list[str] = env.list("REPEATABLE_CAPABILITIES", default=["git", "filesystem", "fetch"])

# How long a job may run and wait, and its agent be silent, when it does not say so itself; 0 is without bound.
RUN_TIMEOUT_S = whole_number("RUN_TIMEOUT_S", 3600, least=10)
QUEUE_TIMEOUT_S = whole_number("QUEUE_TIMEOUT_S", 0, least=0)
NO_OUTPUT_TIMEOUT_S = whole_number("NO_OUTPUT_TIMEOUT_S", 0, least=0)
# Waiting jobs that a tenant may have which has no limit of its own.
MAX_WAITING_JOBS = whole_number("MAX_WAITING_JOBS", 10_000, least=1)

# A longer log loses its middle. A log that is older than so many days goes, later its job; 0 keeps them.
JOB_LOG_MAX_BYTES = whole_number("JOB_LOG_MAX_BYTES", 64 * 1024 * 1024, least=1024 * 1024)
EVENT_RETENTION_DAYS = whole_number("EVENT_RETENTION_DAYS", 90, least=0)
JOB_RETENTION_DAYS = whole_number("JOB_RETENTION_DAYS", 0, least=0)

# Who may read /metrics beside operators: whoever has the token, or comes from one of the networks. Without: nobody.
METRICS_TOKEN: str = token("METRICS_TOKEN")
METRICS_NETWORKS: list[Any] = networks("METRICS_NETWORKS")

# Operators are told in the log, and where these lead. An address may be inside: it is the operators' own.
ALERT_WEBHOOK_URL = endpoint("ALERT_WEBHOOK_URL")
ALERT_WEBHOOK_SECRET = webhook_secret("ALERT_WEBHOOK_SECRET")
ALERT_EMAILS: list[str] = env.list("ALERT_EMAILS", default=[])
globals().update(env.email_url("EMAIL_URL", default="smtp://localhost:25"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL: str = env.str("EMAIL_FROM", default="MyCTOBot <myctobot@localhost>")
# Samples of shards for charts that are older go; 0 keeps them.
SHARD_SAMPLE_RETENTION_DAYS = whole_number("SHARD_SAMPLE_RETENTION_DAYS", 7, least=0)

# The embedded stack's own shards.
LOCAL_SHARD: dict[str, Any] = {
    "slots": env.int("LOCAL_SHARD_SLOTS", default=2),
    "executor": choice("LOCAL_SHARD_EXECUTOR", ("claude_code", "scripted"), "claude_code"),
    "memory_mb": env.int("LOCAL_SHARD_MEMORY_MB", default=2048),
    "git_ca_file": env.str("LOCAL_SHARD_GIT_CA_FILE", default=""),
}

# Where shards in containers and on other machines find what they call; REDIS_URL without its user and password.
SHARD_CONTROL_URL = url("SHARD_CONTROL_URL", CONTROL_URL)
SHARD_BROKER_URL: str = env.str("SHARD_BROKER_URL", default="") or env.str(
    "REDIS_URL", default="redis://127.0.0.1:6379/0"
)
# The proxy through which their git reaches repositories; empty: directly.
SHARD_PROXY_URL: str = env.str("SHARD_PROXY_URL", default="")
# A file with certificates that they shall trust for https repositories; empty: their system's.
SHARD_GIT_CA_FILE: str = env.str("SHARD_GIT_CA_FILE", default="")
SHARD_SSH_KEY_FILE: str = env.str("SHARD_SSH_KEY_FILE", default="")
# How long a new container may take to enrol, and its worker to report.
SHARD_READY_TIMEOUT_S = whole_number("SHARD_READY_TIMEOUT_S", 120, least=5)

# Containers on this host, made by the LXC tools; see ``shards.providers.lxc.host``. Control planes that share a folder
# differ in LXC_OWNER. LXC_ALLOWED: what containers may reach of this host beside what it serves on the bridge.
LXC_PATH: str = env.str("LXC_PATH", default="/var/lib/myctobot/lxc")
LXC_OWNER: str = env.str("LXC_OWNER", default="myctobot")
LXC_BRIDGE: str = env.str("LXC_BRIDGE", default="mctb0")
LXC_NETWORK: str = env.str("LXC_NETWORK", default="10.213.0.0/24")
LXC_FIRST_ID = whole_number("LXC_FIRST_ID", 1_000_000_000, least=100_000)
LXC_ALLOWED: list[str] = env.list("LXC_ALLOWED", default=[])
# Who may come into a container by SSH, as its root: a file of public keys.
LXC_AUTHORIZED_KEYS_FILE: str = env.str(
    "LXC_AUTHORIZED_KEYS_FILE", default=f"{SHARD_SSH_KEY_FILE}.pub" if SHARD_SSH_KEY_FILE else ""
)
# Calls from these networks get the shard API and nothing else; but for the addresses that are this machine's own.
SHARD_NETWORKS: list[str] = env.list("SHARD_NETWORKS", default=[LXC_NETWORK] if first_address(LXC_NETWORK) else [])
SHARD_NETWORKS_EXCEPT: list[str] = env.list(
    "SHARD_NETWORKS_EXCEPT", default=[address] if (address := first_address(LXC_NETWORK)) else []
)
# The proxy of the bridge: names that it connects to (``.example.org``: and all below it), and private networks where
# such a name may lead.
EGRESS_PORT = whole_number("EGRESS_PORT", 8888, least=1)
EGRESS_ALLOWED_HOSTS: list[str] = env.list("EGRESS_ALLOWED_HOSTS", default=[])
EGRESS_PRIVATE_NETWORKS: list[str] = env.list("EGRESS_PRIVATE_NETWORKS", default=[])

# Counts what a shard runs; shards know nothing of jobs.
RUNNING_JOBS = "jobs.capacity.running_jobs.running_on"
# Who makes containers for shards, by name; see ``shards.providers.base``.
PROVIDERS = {
    "lxc": "shards.providers.lxc.provider.LxcProvider",
    "memory": "shards.providers.memory.MemoryProvider",
    "process": "shards.providers.process.provider.ProcessProvider",
    "proxmox": "shards.providers.proxmox.provider.ProxmoxProvider",
}

# Where Proxmox VE is, and what of it shards may use; docs/proxmox.md explains each. Looked at by the provider alone.
PROXMOX: dict[str, Any] = {
    "url": env.str("PROXMOX_URL", default=""),
    "token_id": env.str("PROXMOX_TOKEN_ID", default=""),
    "token_secret": env.str("PROXMOX_TOKEN_SECRET", default=""),
    "node": env.str("PROXMOX_NODE", default=""),
    "storage": env.str("PROXMOX_STORAGE", default=""),
    "bridge": env.str("PROXMOX_BRIDGE", default=""),
    "pool": env.str("PROXMOX_POOL", default=""),
    "templates": env.dict("PROXMOX_TEMPLATES", default={}),
    "owner": env.str("PROXMOX_OWNER", default="myctobot"),
    "ca_file": env.str("PROXMOX_CA_FILE", default=""),
    "fingerprint": env.str("PROXMOX_FINGERPRINT", default=""),
    "sdn_zone": env.str("PROXMOX_SDN_ZONE", default="localnetwork"),
    "vlan": whole_number("PROXMOX_VLAN", 0, least=0),
    "ip": choice("PROXMOX_IP", ("dhcp", "manual"), "dhcp"),
    "nameserver": env.str("PROXMOX_NAMESERVER", default=""),
    "egress": env.list("PROXMOX_EGRESS", default=[]),
    "ssh_from": env.list("PROXMOX_SSH_FROM", default=[]),
    "ssh_public_keys": env.str("PROXMOX_SSH_PUBLIC_KEYS", default=""),
    "full_clones": env.bool("PROXMOX_FULL_CLONES", default=False),
    "call_timeout_s": whole_number("PROXMOX_CALL_TIMEOUT_S", 30, least=1),
    "task_timeout_s": whole_number("PROXMOX_TASK_TIMEOUT_S", 900, least=10),
}

INSTALLED_APPS = [
    # Before the admin, whose site and templates it replaces.
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "django_htmx",
    "myctobot.tenants",
    "shards",
    "jobs",
    "myctobot.dashboards",
    "myctobot.stack",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "myctobot.urls"
ASGI_APPLICATION = "myctobot.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Parts of the panel that are ours go before those of unfold.
        "DIRS": [BASE_DIR / "myctobot/templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "myctobot.dashboards.pages.frame",
            ]
        },
    }
]

# A pool of connections per process: requests run in threads and must not each open one.
DATABASE_POOL_SIZE: int = env.int("DATABASE_POOL_SIZE", default=16)
_database: dict[str, Any] = dict(env.db("DATABASE_URL", default="postgresql://127.0.0.1/myctobot"))
_database["ENGINE"] = "django.db.backends.postgresql"
_database["OPTIONS"] = {
    **_database.get("OPTIONS", {}),
    "pool": {"min_size": 1, "max_size": DATABASE_POOL_SIZE, "timeout": 10},
    "connect_timeout": 5,
    # Django switches prepared statements off. With a threshold those are kept that ask for it (``lib.rows``), alone.
    "prepare_threshold": 2**31,
}
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL: str = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
_channel_host = {"address": REDIS_URL, "socket_timeout": 10, "socket_connect_timeout": 5, "socket_keepalive": True}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # Sealed: shards reach this Redis too, and a taken one must neither read what jobs say nor speak for them.
        "CONFIG": {"hosts": [_channel_host], "symmetric_encryption_keys": [SECRET_KEY]},
    }
}

# How the operators' panel looks.
UNFOLD = PANEL

LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = ["myctobot.formats"]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = HOME / "static"
WHITENOISE_USE_FINDERS = True
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "console-jobs"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = CONTROL_URL.startswith("https://")
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_PROXY", default=False) else None
CSRF_TRUSTED_ORIGINS = [CONTROL_URL]
# Above the 1 MiB that the API takes, so that a larger request gets the API's own answer.
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "myctobot.tenants.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["myctobot.tenants.authentication.HasTenant"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["myctobot.api.parsing.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "myctobot.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "MyCTOBot API",
    "DESCRIPTION": "Run coding agents as jobs on your own shards.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    # From the installed package: the docs page loads nothing from elsewhere.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {"JobStatusEnum": "myctobot.contract.jobs.JobStatus"},
}

LOGGING_CONFIG = "myctobot.logging.configure"
LOGGING = logging_config(json_lines=not EMBEDDED and not DEBUG, level=env.str("LOG_LEVEL", default="INFO"))

# --- Celery: the control plane's own worker. Truth is in PostgreSQL, so results are off and a lost
# message costs a second at most: beat asks for a dispatch round every second.
_anonymous = Exchange("", type="direct")
CELERY = {
    "broker_url": REDIS_URL,
    # Kombu's default for rediss:// believes any certificate.
    "broker_use_ssl": {"ssl_cert_reqs": "required"} if REDIS_URL.startswith("rediss:") else None,
    "task_ignore_result": True,
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_default_queue": "control",
    # Bindings in Redis are keys that shards would have to be allowed to read; the anonymous exchange needs none.
    "task_queues": [
        Queue(name, exchange=_anonymous, routing_key=name, no_declare=True) for name in ("control", "operations")
    ],
    "accept_content": ["json"],
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_hijack_root_logger": False,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "priority_steps": [0],
    },
    "beat_schedule": {
        "tick": {
            "task": "jobs.tick",
            "schedule": schedule(1.0),
            # A tick that nobody took for this long says nothing that the next one does not say.
            "options": {"expires": 5},
        },
        "operations": {"task": "shards.sweep_operations", "schedule": schedule(5.0), "options": {"expires": 5}},
        # Where it does not hold up what comes each second.
        "reconcile": {
            "task": "shards.reconcile",
            "schedule": schedule(60.0),
            "options": {"expires": 50, "queue": "operations"},
        },
        "watch": {"task": "shards.watch", "schedule": schedule(2.0), "options": {"expires": 5}},
        "samples": {"task": "shards.sample", "schedule": schedule(30.0), "options": {"expires": 25}},
        "alerts": {"task": "shards.tell", "schedule": schedule(5.0), "options": {"expires": 10}},
        "history": {"task": "shards.history_retention", "schedule": schedule(600.0), "options": {"expires": 500}},
        "autoscaling": {"task": "jobs.scale_pools", "schedule": schedule(10.0), "options": {"expires": 9}},
        "callbacks": {"task": "jobs.deliver_callbacks", "schedule": schedule(1.0), "options": {"expires": 5}},
        "retention": {"task": "jobs.maintenance.retention", "schedule": schedule(600.0), "options": {"expires": 500}},
    },
}
