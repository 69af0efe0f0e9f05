"""Token for the repository of a running attempt, as it is now: the tenant may have replaced it since the claim."""

from __future__ import annotations

from jobs.attempts.fencing import load_fenced_attempt
from jobs.errors import Fenced
from jobs.lifecycle.secrets import JobSecrets
from myctobot.contract.runner import GitTokenAnswer, GitTokenRequest
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.secrets import UnknownSecret


def read_git_token(key_hash: str, job_id: str, claim_token: str, request: GitTokenRequest) -> GitTokenAnswer:
    """Return the token of a job's repository to the runner of its present attempt.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: public id of the job, which comes from a URL and may be any text.
        claim_token: secret of the calling runner.
        request: see the contract.

    Raises:
        UnknownJob, Fenced: see ``load_fenced_attempt``; or the attempt does not run any more.
        UnknownSecret: the stored secret is gone, or no key opens it.
        SecretNotAllowed: the job may not use the stored secret any more.
    """
    fenced = load_fenced_attempt(key_hash, job_id, request["attempt"], claim_token)
    if not fenced.is_running:
        raise Fenced
    try:
        found = JobSecrets.of(fenced.job).values(fenced.job, ("repo_token",))
    except CannotUnseal as error:
        raise UnknownSecret(f"The job's repo_token cannot be opened: {error}.") from error
    return GitTokenAnswer(token=found.get("repo_token"))
