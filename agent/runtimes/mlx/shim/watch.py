"""What must happen even when Python cannot run: the parent's death, and deadlines.

Joining the ring holds the interpreter lock, so no thread and no Python signal handler runs meanwhile. Only the kernel can
act then: the default action of SIGALRM, and on Linux the parent-death signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

from .life import ORPHAN, Life

PR_SET_PDEATHSIG = 1
PARENT_POLL_SECONDS = 0.1
STOP_GRACE_SECONDS = 0.3


def follow_parent(life: Life, parent_pid: int) -> None:
    """The shardhost owns this process; without it nobody would ever stop us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # After prctl: a parent that died before it is seen here.
    if os.getppid() != parent_pid:
        life.fail(f"the parent is {os.getppid()}, not {parent_pid}", ORPHAN)

    def poll() -> None:
        while os.getppid() == parent_pid:
            time.sleep(PARENT_POLL_SECONDS)
        life.fail("the parent is gone", ORPHAN)

    threading.Thread(target=poll, name="parent-watch", daemon=True).start()


def arm(seconds: float) -> None:
    """Kills the process by SIGALRM after `seconds` unless armed anew or disarmed."""
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))


def disarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)


def stop_on_signals(life: Life) -> None:
    """Only after the join: a Python handler would not run during it, the default action does."""

    def handler(_signal: int, _frame: object) -> None:
        life.stop(STOP_GRACE_SECONDS)

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
