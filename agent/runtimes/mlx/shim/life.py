"""How a rank speaks and how it ends: events for the shardhost, and one door out with a code that means something.

Every end goes through `os._exit`: tearing the interpreter down while socket threads of the ring live gave SIGABRT.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

STOPPED = 0
WORLD_MISMATCH = 64
UNSUPPORTED_BUILD = 65
ENGINE_FAILED = 70
ORPHAN = 75

STDERR = 2
REASON_CHARACTERS = 500


class Life:
    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._fd = int(os.environ.get("MCTL_EVENTS_FD", STDERR))
        self._ending = threading.Lock()
        self.started = time.monotonic()
        self.stopping = False
        if self._fd != STDERR:
            # A reader that fell behind must not stop the generator: events are then lost, not waited for.
            os.set_blocking(self._fd, False)

    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 3)

    def emit(self, event: str, **fields: Any) -> None:
        line = {"ev": event, "rank": self._rank, "pid": os.getpid(), "t": round(time.time(), 3), **fields}
        try:
            os.write(self._fd, (json.dumps(line) + "\n").encode())
        except OSError:
            # Nobody listens any more. The parent watch decides what follows from that.
            pass

    def fail(self, reason: str, code: int = ENGINE_FAILED) -> NoReturn:
        """Ends the process. Once a stop was asked for, what breaks (peers leaving the ring) is part of stopping."""
        if not self._ending.acquire(blocking=False):
            time.sleep(60)
        if self.stopping:
            code, reason = STOPPED, "stopped"
        self.emit("exit", code=code, reason=one_line(reason))
        sys.stderr.flush()
        os._exit(code)

    def fail_with(self, error: BaseException, doing: str) -> NoReturn:
        if not self.stopping:
            traceback.print_exception(error, file=sys.stderr)
        self.fail(f"{doing}: {type(error).__name__}: {error}")

    def stop(self, grace_seconds: float) -> None:
        """Asked to stop. The short grace lets the peers get their own signal before the ring closes on them."""
        if self.stopping:
            return
        self.stopping = True
        self.emit("stopping")
        timer = threading.Timer(grace_seconds, self.fail, ["stopped"])
        timer.daemon = True
        timer.start()


def one_line(text: str) -> str:
    return " ".join(text.split())[:REASON_CHARACTERS]
