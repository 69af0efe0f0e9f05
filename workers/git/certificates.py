"""Reason why the certificate of a repository's host is refused, as a handshake of our own finds it.

curl gives one sentence for an expired certificate, one for another host and one of an unknown authority.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

from workers.errors import JobError
from workers.git import causes
from workers.git.policy import GitPolicy, Remote

TIMEOUT_S: Final = 15
# Numbers of OpenSSL; see x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = (62, 64)

_CAUSES: Final = {
    _EXPIRED: causes.CERTIFICATE_EXPIRED,
    _NOT_YET_VALID: causes.CERTIFICATE_NOT_YET_VALID,
    **dict.fromkeys(_OTHER_NAME, causes.CERTIFICATE_OF_ANOTHER_HOST),
}


async def certificate_error(remote: Remote, policy: GitPolicy, error: JobError) -> JobError:
    """Return a more exact error for a certificate that git refused, or the given one.

    Args:
        remote: checked address; without addresses, a proxy connects, and there is no handshake of our own.
    """
    if not remote.addresses:
        return error
    cause = _CAUSES.get(await _verify_code(remote, policy))
    return JobError(cause.code, cause.message) if cause else error


async def _verify_code(remote: Remote, policy: GitPolicy) -> int:
    """Return OpenSSL's number for what is wrong with the certificate, or 0."""
    context = ssl.create_default_context(cafile=str(policy.ca_file) if policy.ca_file else None)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _reader, writer = await asyncio.open_connection(
                remote.addresses[0], remote.port, ssl=context, server_hostname=remote.host
            )
    except ssl.SSLCertVerificationError as error:
        return error.verify_code
    except (OSError, TimeoutError):
        return 0
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), TIMEOUT_S)
    return 0
