"""By which ways operators are told: the log always, a webhook and e-mail when they are set up."""

from __future__ import annotations

import json
import smtplib
import ssl
from datetime import UTC, datetime
from typing import Final, Protocol

import httpx
import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from standardwebhooks import Webhook

from shards.monitoring.models import Alert

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 10.0


class NotTaken(Exception):
    """A channel did not take an alert; the message says why."""


class Channel(Protocol):
    """One way. ``name`` is what is kept of it in ``Alert.delivered``."""

    name: str

    def send(self, alert: Alert, text: str) -> None:
        """Send it once.

        Raises:
            NotTaken: it may be tried again.
        """
        ...


class LogChannel:
    """A warning in the control plane's own log."""

    name = "log"

    def send(self, alert: Alert, text: str) -> None:
        log.warning("alert", kind=alert.kind, subject=alert.subject, text=text)


class WebhookChannel:
    """A POST of JSON to the operators' own address, signed by the Standard Webhooks rules when there is a secret.

    ``text`` on top is what chat systems show; a redirect is not followed.
    """

    name = "webhook"

    def send(self, alert: Alert, text: str) -> None:
        now = datetime.now(UTC)
        body = json.dumps(
            {
                "type": alert.kind,
                "timestamp": now.isoformat(),
                "text": f"{alert.subject}: {text}",
                "data": {"id": alert.pk, "subject": alert.subject, "text": text, "count": alert.count},
            },
            separators=(",", ":"),
        )
        try:
            status = _post(settings.ALERT_WEBHOOK_URL, body, _signed(f"alert_{alert.pk}", now, body))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NotTaken(f"It could not be reached: {str(error) or type(error).__name__}") from error
        if not 200 <= status < 300:
            raise NotTaken(f"It answered {status}.")


def _post(url: str, body: str, headers: dict[str, str]) -> int:
    # Of the answer no more is read than its head.
    with (
        httpx.Client(verify=_tls(), timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        return answer.status_code


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.CALLBACK_CA_FILE:
        context.load_verify_locations(settings.CALLBACK_CA_FILE)
    return context


def _signed(message_id: str, now: datetime, body: str) -> dict[str, str]:
    # The same over all tries, so that the receiver knows it again.
    headers = {"content-type": "application/json", "user-agent": "MyCTOBot", "webhook-id": message_id}
    if settings.ALERT_WEBHOOK_SECRET:
        headers["webhook-timestamp"] = str(int(now.timestamp()))
        headers["webhook-signature"] = Webhook(settings.ALERT_WEBHOOK_SECRET).sign(message_id, now, body)
    return headers


class EmailChannel:
    """One e-mail to all addresses."""

    name = "email"

    def send(self, alert: Alert, text: str) -> None:
        message = EmailMessage(
            f"[MyCTOBot] {alert.subject}",
            f"{text}\n\n{settings.CONTROL_URL}\n",
            to=settings.ALERT_EMAILS,
            headers={"Message-ID": f"<alert-{alert.pk}.{int(alert.created_at.timestamp())}@myctobot>"},
        )
        try:
            message.send()
        except (smtplib.SMTPException, OSError) as error:
            raise NotTaken(f"The mail server did not take it: {error}") from error


def channels() -> list[Channel]:
    """Those that are set up; the log is first, and always takes what it is told."""
    found: list[Channel] = [LogChannel()]
    if settings.ALERT_WEBHOOK_URL:
        found.append(WebhookChannel())
    if settings.ALERT_EMAILS:
        found.append(EmailChannel())
    return found
