"""Login of the embedded stack, read from its home."""

from __future__ import annotations

from pathlib import Path

from myctobot.stack.errors import StackError
from myctobot.stack.home import GeneratedSecrets, Home, read_json

LOGIN = "admin"


def read_login(home: Home) -> dict[str, str]:
    """Return the rows that describe how to log in.

    Raises:
        StackError: no stack has run with this home, or another user owns it.
    """
    try:
        if not (home.root / "secrets.json").exists():
            raise StackError(f"There is no stack in {home.root} yet. 'make up' creates one.")
        password = GeneratedSecrets.load_or_create(home.root).admin_password
        key = home.root / "api_key"
        api_key = key.read_text().strip() if key.exists() else "none yet"
    except PermissionError as error:
        raise StackError(
            f"{error.filename} belongs to another user. Run this as the user that starts the stack."
        ) from error
    url = _running_url(home)
    web = {"Web": f"{url}/jobs/", "Admin": f"{url}/admin/"} if url else {"Web": "not running; 'make up' starts it"}
    return {**web, "API key": api_key, "Login": f"{LOGIN} / {password}"}


def _running_url(home: Home) -> str | None:
    """Return the URL of the web process; None if the stack does not run, also if it was killed."""
    status = read_json(home.status)
    if not isinstance(status, dict) or not Path(f"/proc/{status.get('pid')}").exists():
        return None
    url: str | None = status.get("urls", {}).get("web")
    return url
