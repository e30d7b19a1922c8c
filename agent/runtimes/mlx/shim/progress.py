"""What a rank has done lately. The heartbeat carries progress, not just time: a thread that beats proves nothing."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

from .life import Life

BEAT_SECONDS = 1.0


class Progress:
    """Written by the generator thread, read by the heartbeat; single fields, so no lock."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.polls = 0
        self.steps = 0
        self.queued = 0
        # Of requests that run alone (with a seed), outside any batch.
        self.alone = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self._moved = time.monotonic()
        self._batch: weakref.ref[Any] | None = None

    def follow(self, batch: Any) -> None:
        self._batch = weakref.ref(batch)

    def polled(self) -> None:
        self.polls += 1
        self._moved = time.monotonic()

    def stepped(self, prompt_tokens: int, generated_tokens: int) -> None:
        self.steps += 1
        self.prompt_tokens += prompt_tokens
        self.generated_tokens += generated_tokens
        self._moved = time.monotonic()

    def active(self) -> int:
        """Sequences that hold KV cache in the generator."""
        batch = self._batch() if self._batch else None
        if batch is None:
            return self.alone
        return self.alone + len(batch._unprocessed_sequences) + len(batch._prompt_batch) + len(batch._generation_batch)

    def snapshot(self) -> dict[str, Any]:
        active = self.active()
        return {
            "phase": self.phase,
            "busy": active > 0,
            "active": active,
            "queued": self.queued,
            "steps": self.steps,
            "polls": self.polls,
            "ptok": self.prompt_tokens,
            "gtok": self.generated_tokens,
            "age": round(time.monotonic() - self._moved, 3),
        }


def start_heartbeat(life: Life, progress: Progress, startup_deadline_seconds: float) -> None:
    """Also keeps the startup deadline, with a reason; the OS timer behind it has none."""

    import mlx.core as mx

    def beat() -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            life.emit("hb", **progress.snapshot(), mem=mx.get_active_memory())
            if progress.phase == "loading" and life.seconds() > startup_deadline_seconds:
                life.fail(f"not ready within {startup_deadline_seconds:g} s")

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
