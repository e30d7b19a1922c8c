"""One running rank: its launch file, its life, its progress, and what is known once the model is loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .config import Config
from .life import Life
from .progress import Progress

QUEUE_POLL_SECONDS = 0.5


class Slots:
    """How many requests may be inside the generator: each holds KV cache that the plan has paid for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._changed = threading.Condition()
        self._taken = 0
        self.limit = 1

    def take(self, gone: Callable[[], None]) -> None:
        """Waits for a place. `gone` is asked meanwhile and raises when the client has left."""
        with self._changed:
            self._progress.queued += 1
            try:
                while self._taken >= self.limit:
                    self._changed.wait(QUEUE_POLL_SECONDS)
                    gone()
                self._taken += 1
            finally:
                self._progress.queued -= 1

    def give_back(self) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()


@dataclass
class Shard:
    config: Config
    life: Life
    progress: Progress = field(default_factory=Progress)
    slots: Slots = field(init=False)
    # From here on known only after loading.
    kv_tokens: int = 0
    head_ids: int = 0

    def __post_init__(self) -> None:
        self.slots = Slots(self.progress)
