"""Settings of the control plane.

``env.py`` reads every value that varies.
"""

from __future__ import annotations

import secrets
from typing import Any

import django_stubs_ext
from celery.schedules import schedule

from myctobot.env import (
    BASE_DIR,
    HOME,
    choice,
    contacts,
    direct_addresses,
    endpoint,
    env,
    expiry,
    first_address,
    folders,
    networks,
    proxy_url,
    schemes,
    token,
    url,
    webhook_secret,
    whole_number,
)  # fmt: skip
from myctobot.logging import logging_config
from myctobot.messaging import direct_queue
from myctobot.settings.admin_theme import PANEL
from myctobot.settings.callers import read_call_limits
from myctobot.settings.database import (  # noqa: F401 - settings of Django, which nothing here uses
    DATABASE_POOL_SIZE,
    SHARD_STATEMENT_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    WORKER_STATEMENT_TIMEOUT_S,
    read_database,
)
from myctobot.settings.rest import FRAMEWORK, SCHEMA

django_stubs_ext.monkeypatch()

EMBEDDED: bool = env.bool("EMBEDDED", default=False)
DEBUG: bool = env.bool("DEBUG", default=False)
# A process without a configured key uses a random one. Its sessions then end with the process.
SECRET_KEY: str = env.str("SECRET_KEY", default="") or secrets.token_urlsafe(50)
# Fernet keys, newest first. The first one encrypts, and all of them decrypt.
SECRETS_KEYS: list[str] = env.list("SECRETS_KEYS", default=[])
# For a process without SECRETS_KEYS, which signs callbacks and opens no other secret.
CALLBACK_KEYS: list[str] = env.list("CALLBACK_KEYS", default=[])
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
MYCTOBOT_HOME = HOME

CONTROL_URL = url("CONTROL_URL", "http://127.0.0.1:8000")
# Address of the shard API on this machine: of a process of its own, or else of the web process.
SHARD_API_URL = url("SHARD_API_URL", CONTROL_URL)
GATEWAY_URL = url("GATEWAY_URL", "http://127.0.0.1:8001")
GATEWAY_UPSTREAM = choice("GATEWAY_UPSTREAM", ("scripted", "anthropic"), "anthropic")
GATEWAY_SCRIPTS: str = env.str(
    "GATEWAY_SCRIPTS", default=str(BASE_DIR / "myctobot/gateway/upstreams/scripted/examples")
)
ANTHROPIC_BASE_URL = url("ANTHROPIC_BASE_URL", "https://api.anthropic.com")

# Below these folders every tenant can read and write every repository by file://. Without one, file:// is refused.
REPO_FILE_ROOTS: list[str] = folders("REPO_FILE_ROOTS")
# Limits on repository URLs of tenants. A shard checks them again against its own configuration.
REPO_SCHEMES: list[str] = schemes("REPO_SCHEMES", REPO_FILE_ROOTS)
REPO_PRIVATE_HOSTS: list[str] = env.list("REPO_PRIVATE_HOSTS", default=[])

# Hosts of callbacks that may have private addresses, and additional trusted certificates for callbacks.
CALLBACK_PRIVATE_HOSTS: list[str] = env.list("CALLBACK_PRIVATE_HOSTS", default=[])
CALLBACK_CA_FILE: str = env.str("CALLBACK_CA_FILE", default="")

# Capabilities whose effects can safely happen twice. A lost job with only such capabilities is retried.
REPEATABLE_CAPABILITIES: list[str] = env.list("REPEATABLE_CAPABILITIES", default=["git", "filesystem", "fetch"])
# Shards keep the objects of repositories for the tenant's next jobs.
KEEP_REPOSITORY_OBJECTS: bool = env.bool("KEEP_REPOSITORY_OBJECTS", default=True)

# Default limits for the run time of a job, its wait and its agent's silence; 0 means no limit.
RUN_TIMEOUT_S = whole_number("RUN_TIMEOUT_S", 3600, minimum=10)
QUEUE_TIMEOUT_S = whole_number("QUEUE_TIMEOUT_S", 0, minimum=0)
NO_OUTPUT_TIMEOUT_S = whole_number("NO_OUTPUT_TIMEOUT_S", 0, minimum=0)
# Maximum number of waiting jobs of a tenant without its own limit.
MAX_WAITING_JOBS = whole_number("MAX_WAITING_JOBS", 10_000, minimum=1)

# The middle of a longer log is removed. Logs and jobs are deleted after these days; 0 keeps them.
JOB_LOG_MAX_BYTES = whole_number("JOB_LOG_MAX_BYTES", 64 * 1024 * 1024, minimum=1024 * 1024)
EVENT_RETENTION_DAYS = whole_number("EVENT_RETENTION_DAYS", 90, minimum=0)
JOB_RETENTION_DAYS = whole_number("JOB_RETENTION_DAYS", 0, minimum=0)

# Agents' work is kept for later pushes and downloads, within these bounds of a job, of a tenant and of time; 0 MB
# keeps none.
WORK_MAX_MB = whole_number("WORK_MAX_MB", 64, minimum=0)
WORK_TENANT_MAX_MB = whole_number("WORK_TENANT_MAX_MB", 1024, minimum=0)
WORK_RETENTION_DAYS = whole_number("WORK_RETENTION_DAYS", 7, minimum=1)

# Operators can read /metrics, and so can callers with this token or from these networks.
METRICS_TOKEN: str = token("METRICS_TOKEN")
METRICS_NETWORKS: list[Any] = networks("METRICS_NETWORKS")

# Alerts go to the log and to these targets. The webhook may have a private address, because operators choose it.
ALERT_WEBHOOK_URL = endpoint("ALERT_WEBHOOK_URL")
ALERT_WEBHOOK_SECRET = webhook_secret("ALERT_WEBHOOK_SECRET")
ALERT_EMAILS: list[str] = env.list("ALERT_EMAILS", default=[])
globals().update(env.email_url("EMAIL_URL", default="smtp://localhost:25"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL: str = env.str("EMAIL_FROM", default="MyCTOBot <myctobot@localhost>")
# Samples of shards for charts are deleted after these days; 0 keeps them.
SHARD_SAMPLE_RETENTION_DAYS = whole_number("SHARD_SAMPLE_RETENTION_DAYS", 7, minimum=0)

# Shards of the embedded stack.
LOCAL_SHARD: dict[str, Any] = {
    "slots": env.int("LOCAL_SHARD_SLOTS", default=2),
    "executor": choice("LOCAL_SHARD_EXECUTOR", ("claude_code", "scripted"), "claude_code"),
    "memory_mb": env.int("LOCAL_SHARD_MEMORY_MB", default=2048),
    "git_ca_file": env.str("LOCAL_SHARD_GIT_CA_FILE", default=""),
    "network": choice("LOCAL_SHARD_NETWORK", ("job", "shard"), "job"),
    "proxy_url": env.str("LOCAL_SHARD_PROXY_URL", default=""),
}

# Addresses for shards in containers and on other machines. The broker URL here has no user or password.
SHARD_CONTROL_URL = url("SHARD_CONTROL_URL", SHARD_API_URL)
SHARD_BROKER_URL: str = env.str("SHARD_BROKER_URL", default="") or env.str(
    "REDIS_URL", default="redis://127.0.0.1:6379/0"
)
# Proxy for git on shards; empty means a direct connection.
SHARD_PROXY_URL: str = env.str("SHARD_PROXY_URL", default="")
# Agents' networks, their filtering proxy, and the servers that they reach directly; see docs/shards.md.
SHARD_JOB_NETWORK = choice("SHARD_JOB_NETWORK", ("job", "shard"), "job")
SHARD_AGENT_PROXY_URL = proxy_url("SHARD_AGENT_PROXY_URL")
SHARD_AGENT_ADDRESSES = direct_addresses("SHARD_AGENT_ADDRESSES")
# File with the certificates that shards trust for https repositories; empty means the system's certificates.
SHARD_GIT_CA_FILE: str = env.str("SHARD_GIT_CA_FILE", default="")
SHARD_SSH_KEY_FILE: str = env.str("SHARD_SSH_KEY_FILE", default="")
# SSH key of new containers, such as ``ssh-ed25519 AAAA…``; without it, an unknown key must be accepted explicitly.
SHARD_SSH_HOST_KEY: str = env.str("SHARD_SSH_HOST_KEY", default="").strip()
SHARD_SSH_TRUST_FIRST_KEY: bool = env.bool("SHARD_SSH_TRUST_FIRST_KEY", default=False)
# Networks in which keys of shards may travel over http:// and redis://.
SHARD_PLAIN_NETWORKS: list[Any] = networks("SHARD_PLAIN_NETWORKS")
# Maximum time in seconds for a new container to enroll and for its worker to report.
SHARD_READY_TIMEOUT_S = whole_number("SHARD_READY_TIMEOUT_S", 120, minimum=5)

# Containers of the LXC tools on this host; see ``shards.providers.lxc.host``. Control planes with a shared folder
# need different values of LXC_OWNER.
LXC_PATH: str = env.str("LXC_PATH", default="/var/lib/myctobot/lxc")
LXC_OWNER: str = env.str("LXC_OWNER", default="myctobot")
LXC_BRIDGE: str = env.str("LXC_BRIDGE", default="mctb0")
LXC_NETWORK: str = env.str("LXC_NETWORK", default="10.213.0.0/24")
LXC_FIRST_ID = whole_number("LXC_FIRST_ID", 1_000_000_000, minimum=100_000)
# Addresses of this host that containers can reach in addition to the services on the bridge.
LXC_ALLOWED: list[str] = env.list("LXC_ALLOWED", default=[])
# File of the public keys that can log in to containers by SSH as root.
LXC_AUTHORIZED_KEYS_FILE: str = env.str(
    "LXC_AUTHORIZED_KEYS_FILE", default=f"{SHARD_SSH_KEY_FILE}.pub" if SHARD_SSH_KEY_FILE else ""
)
# Callers in these networks can only use the shard API. The exceptions are this machine's own addresses.
SHARD_NETWORKS: list[str] = env.list("SHARD_NETWORKS", default=[LXC_NETWORK] if first_address(LXC_NETWORK) else [])
SHARD_NETWORKS_EXCEPT: list[str] = env.list(
    "SHARD_NETWORKS_EXCEPT", default=[address] if (address := first_address(LXC_NETWORK)) else []
)
EGRESS_PORT = whole_number("EGRESS_PORT", 8888, minimum=1)
# The proxy of the bridge connects only to these hosts; ``.example.org`` includes subdomains.
EGRESS_ALLOWED_HOSTS: list[str] = env.list("EGRESS_ALLOWED_HOSTS", default=[])
# Allowed hosts may have addresses in these private networks.
EGRESS_PRIVATE_NETWORKS: list[str] = env.list("EGRESS_PRIVATE_NETWORKS", default=[])

# Function that counts the running jobs of a shard. The shards package does not import jobs.
RUNNING_JOBS = "jobs.capacity.running_jobs.running_on"
# Providers of shards by name; see ``shards.providers.base``.
PROVIDERS = {
    "lxc": "shards.providers.lxc.provider.LxcProvider",
    "memory": "shards.providers.memory.MemoryProvider",
    "process": "shards.providers.process.provider.ProcessProvider",
    "proxmox": "shards.providers.proxmox.provider.ProxmoxProvider",
}

# Connection to Proxmox VE and the resources for shards; docs/proxmox.md explains each. Only the provider reads them.
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
    "vlan": whole_number("PROXMOX_VLAN", 0, minimum=0),
    "ip": choice("PROXMOX_IP", ("dhcp", "manual"), "dhcp"),
    "nameserver": env.str("PROXMOX_NAMESERVER", default=""),
    "egress": env.list("PROXMOX_EGRESS", default=[]),
    "ssh_from": env.list("PROXMOX_SSH_FROM", default=[]),
    "ssh_public_keys": env.str("PROXMOX_SSH_PUBLIC_KEYS", default=""),
    "full_clones": env.bool("PROXMOX_FULL_CLONES", default=False),
    "call_timeout_s": whole_number("PROXMOX_CALL_TIMEOUT_S", 30, minimum=1),
    "task_timeout_s": whole_number("PROXMOX_TASK_TIMEOUT_S", 900, minimum=10),
}

INSTALLED_APPS = [
    # unfold must come before the admin, because it replaces the admin's site and templates.
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
    "myctobot.accounts",
    "shards",
    "jobs",
    "myctobot.dashboards",
    "myctobot.stack",
]

MIDDLEWARE = [
    "myctobot.web.security_headers.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "myctobot.accounts.middleware.SecondFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "myctobot.urls"
ASGI_APPLICATION = "myctobot.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Our templates of the panel take precedence over those of unfold.
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

DATABASES = {"default": read_database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL: str = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
_channel_host = {"address": REDIS_URL, "socket_timeout": 10, "socket_connect_timeout": 5, "socket_keepalive": True}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # Encrypt the messages, so that a compromised shard cannot read or forge job events in this Redis.
        "CONFIG": {"hosts": [_channel_host], "symmetric_encryption_keys": [SECRET_KEY]},
    }
}

# Appearance of the operators' panel.
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
SECURE_REFERRER_POLICY = "same-origin"
# An https address in CONTROL_URL means that a proxy in front terminates TLS.
HTTPS = CONTROL_URL.startswith("https://")
BEHIND_PROXY: bool = env.bool("BEHIND_PROXY", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
# Without the proxy's header, every request seems to be plain HTTP and would cause an endless redirect.
SECURE_SSL_REDIRECT = HTTPS and BEHIND_PROXY
# Local programs call these paths directly. A redirect would come after they sent their key in clear text.
SECURE_REDIRECT_EXEMPT = [r"^api/v1/", r"^healthz$", r"^metrics$"]
# Browsers remember this value, so the default is short enough to revert.
SECURE_HSTS_SECONDS = whole_number("HSTS_SECONDS", 3600 if HTTPS else 0, minimum=0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.bool("HSTS_SUBDOMAINS", default=HTTPS)
CSRF_TRUSTED_ORIGINS = [CONTROL_URL]
CSRF_FAILURE_VIEW = "myctobot.web.error_pages.csrf_failure"
# Contacts in security.txt, and the time after which readers must not use it.
SECURITY_CONTACT: list[str] = contacts("SECURITY_CONTACT")
SECURITY_EXPIRES = expiry("SECURITY_EXPIRES", needed_by="SECURITY_CONTACT" if SECURITY_CONTACT else "")
# This is above every limit of BODY_LIMITS, which decides first.
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024
# Limits of each process that serves HTTP. Behind a proxy, all connections have the proxy's address.
MAX_CONNECTIONS = whole_number("MAX_CONNECTIONS", 4000, minimum=1)
MAX_CONNECTIONS_PER_ADDRESS = whole_number(
    "MAX_CONNECTIONS_PER_ADDRESS", MAX_CONNECTIONS if BEHIND_PROXY else 400, minimum=1
)
REQUEST_HEADER_TIMEOUT_S = whole_number("REQUEST_HEADER_TIMEOUT_S", 10, minimum=1)
REQUEST_BODY_TIMEOUT_S = whole_number("REQUEST_BODY_TIMEOUT_S", 60, minimum=1)
# A client that takes nothing of a response for so long is disconnected.
RESPONSE_STALL_TIMEOUT_S = whole_number("RESPONSE_STALL_TIMEOUT_S", 120, minimum=1)
# Limits on the calls of each key, tenant and address; see ``settings.callers``.
CALL_LIMITS = read_call_limits()

AUTHENTICATION_BACKENDS = ["myctobot.accounts.backend.PasswordBackend"]
# Staff must log in with a code of an authenticator app.
STAFF_TOTP_REQUIRED: bool = env.bool("STAFF_TOTP_REQUIRED", default=False)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

REST_FRAMEWORK = FRAMEWORK
SPECTACULAR_SETTINGS = SCHEMA

LOGGING_CONFIG = "myctobot.logging.configure"
LOGGING = logging_config(json_lines=not EMBEDDED and not DEBUG, level=env.str("LOG_LEVEL", default="INFO"))

# --- Celery: workers of the control plane.
# PostgreSQL has the state, so results are off. Beat makes up for a lost message within a second.
CELERY = {
    "broker_url": REDIS_URL,
    # Kombu's default for rediss:// accepts any certificate.
    "broker_use_ssl": {"ssl_cert_reqs": "required"} if REDIS_URL.startswith("rediss:") else None,
    "task_ignore_result": True,
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_default_queue": "control",
    "task_queues": [direct_queue(name) for name in ("control", "operations")],
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
            # A tick expires, because the next one replaces it.
            "options": {"expires": 5},
        },
        "operations": {"task": "shards.sweep_operations", "schedule": schedule(5.0), "options": {"expires": 5}},
        # Use the queue of operations, so that this long task does not delay the tick.
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
        "retention": {"task": "jobs.retention", "schedule": schedule(600.0), "options": {"expires": 500}},
    },
}
