from __future__ import annotations

import subprocess
import sys

from myctobot.stack.plan import CHECKOUT

# linux/prctl.h: PR_GET_DUMPABLE is 3.
PROBE = """
import ctypes
from workers.hardening import keep_memory_private
before = ctypes.CDLL(None).prctl(3)
keep_memory_private()
print(before, ctypes.CDLL(None).prctl(3))
"""


def test_other_processes_of_the_same_user_cannot_read_a_process_with_a_key() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]


KEYRINGS = """
import ctypes, os
from workers.hardening import _KEYCTL, join_fresh_session_keyring
call = ctypes.CDLL(None).syscall
session = lambda: call(_KEYCTL[os.uname().machine], 0, -3, 1)
join_fresh_session_keyring()
first = session()
join_fresh_session_keyring()
print(first > 0, session() > 0, session() != first)
"""


def test_a_job_has_a_session_keyring_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", KEYRINGS], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
