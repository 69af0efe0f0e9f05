"""Settings of the control plane; every value that varies comes through ``env.py``."""

from __future__ import annotations

import secrets
from typing import Any

import django_stubs_ext
from celery.schedules import schedule
from kombu import Exchange, Queue

from myctobot.env import BASE_DIR, HOME, choice, env, url, whole_number
from myctobot.logging import logging_config

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

# The embedded stack's own shards.
LOCAL_SHARD: dict[str, Any] = {
    "slots": env.int("LOCAL_SHARD_SLOTS", default=2),
    "executor": choice("LOCAL_SHARD_EXECUTOR", ("claude_code", "scripted"), "claude_code"),
    "memory_mb": env.int("LOCAL_SHARD_MEMORY_MB", default=2048),
    "git_ca_file": env.str("LOCAL_SHARD_GIT_CA_FILE", default=""),
}

# Who makes containers for shards, by name; see ``shards.providers.base``.
PROVIDERS = {
    "lxc": "shards.providers.lxc.provider.LxcProvider",
    "memory": "shards.providers.memory.MemoryProvider",
    "process": "shards.providers.process.ProcessProvider",
    "proxmox": "shards.providers.proxmox.provider.ProxmoxProvider",
}

INSTALLED_APPS = [
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

LANGUAGE_CODE = "en-us"
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
    "DEFAULT_PARSER_CLASSES": ["myctobot.api_parsing.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "myctobot.api_errors.exception_handler",
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
    "ENUM_NAME_OVERRIDES": {"JobStatusEnum": "jobs.contract.JobStatus"},
}

LOGGING_CONFIG = "myctobot.logging.configure"
LOGGING = logging_config(json_lines=not EMBEDDED and not DEBUG, level=env.str("LOG_LEVEL", default="INFO"))

# --- Celery: the control plane's own worker. Truth is in PostgreSQL, so results are off and a lost
# message costs a second at most: beat asks for a dispatch round every second.
_anonymous = Exchange("", type="direct")
CELERY = {
    "broker_url": REDIS_URL,
    "task_ignore_result": True,
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_default_queue": "control",
    # Bindings in Redis are keys that shards would have to be allowed to read; the anonymous exchange needs none.
    "task_queues": [Queue("control", exchange=_anonymous, routing_key="control", no_declare=True)],
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
        "callbacks": {"task": "jobs.deliver_callbacks", "schedule": schedule(1.0), "options": {"expires": 5}},
        "retention": {"task": "jobs.retention", "schedule": schedule(600.0), "options": {"expires": 500}},
    },
}
