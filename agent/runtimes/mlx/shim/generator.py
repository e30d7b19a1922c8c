"""mlx_lm.server's generator with its end reported, its progress counted and its memory bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx_lm import server

from .life import UNSUPPORTED_BUILD
from .shard import Shard
from .watch import disarm

# Private, so no signature tells of them.
BATCH_FIELDS = ("_unprocessed_sequences", "_prompt_batch", "_generation_batch", "_counters")


class BoundedPromptCache(server.LRUPromptCache):
    """Finished prompts may stay only in the part of the KV budget that no running request can claim.

    Counted in tokens, not bytes: the stages of a pipeline have different bytes, and ranks that keep different prompts
    would prefill different lengths and wait for each other for ever.
    """

    def __init__(self, shard: Shard, max_size: int) -> None:
        super().__init__(max_size)
        self._shard = shard
        if not hasattr(getattr(self, "_lru", None), "_lrus"):
            shard.life.fail("LRUPromptCache has no _lru._lrus", UNSUPPORTED_BUILD)

    def insert_cache(self, model: Any, tokens: list[int], prompt_cache: list[Any], **kwargs: Any) -> None:
        # Taken out of a batch lazily: until it is computed, the copy of one row keeps the whole batch in memory.
        mx.eval([part.state for part in prompt_cache])
        super().insert_cache(model, tokens, prompt_cache, **kwargs)
        self.make_room()

    def make_room(self) -> None:
        shard = self._shard
        room = max(0, shard.kv_tokens - shard.progress.active() * shard.config.context_tokens)
        while len(self) > 0 and self._tokens() > room:
            self.trim_to(n_sequences=len(self) - 1)

    def _tokens(self) -> int:
        return sum(len(tokens) for kept in self._lru._lrus.values() for _, tokens in kept)


class CountedBatchGenerator(server.BatchGenerator):
    def __init__(self, shard: Shard, prompt_cache: BoundedPromptCache, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shard = shard
        self._finished_prompts = prompt_cache
        missing = [name for name in BATCH_FIELDS if not hasattr(self, name)]
        if missing:
            shard.life.fail(f"BatchGenerator has no {', '.join(missing)}", UNSUPPORTED_BUILD)
        shard.progress.follow(self)

    def insert_segments(self, *args: Any, **kwargs: Any) -> Any:
        uids = super().insert_segments(*args, **kwargs)
        self._finished_prompts.make_room()
        return uids

    def next(self) -> Any:
        prompt, generated = self._counters.prompt_tokens, self._counters.generation_tokens
        responses = super().next()
        self._shard.progress.stepped(
            self._counters.prompt_tokens - prompt, self._counters.generation_tokens - generated
        )
        return responses


class WatchedResponseGenerator(server.ResponseGenerator):
    def __init__(self, shard: Shard, model_provider: Any, prompt_cache: Any) -> None:
        # First: the base class starts the generator thread.
        self._shard = shard
        super().__init__(model_provider, prompt_cache)

    def _generate(self) -> None:
        """mlx-lm lets this thread die and goes on answering; a rank without it is of no use to anybody."""
        try:
            super()._generate()
        except BaseException as error:
            self._shard.life.fail_with(error, self._shard.progress.phase)
        self._shard.life.fail("the generator ended")

    def _next_request(self, timeout: float | None = None) -> Any:
        request = super()._next_request(timeout)
        self._shard.progress.polled()
        if self._shard.progress.phase == "loading":
            # In a gang the first poll is a collective: every rank has come this far.
            self._become_ready()
        return request

    def _become_ready(self) -> None:
        disarm()
        self._shard.progress.phase = "ready"
        self._shard.life.emit("ready", s=self._shard.life.seconds())

    @property
    def is_healthy(self) -> bool:
        ready = self._shard.progress.phase == "ready" and not self._shard.life.stopping
        return ready and bool(self.generation_available())


def counted_alone(shard: Shard, original: Any) -> Any:
    """Requests with a seed run outside the batch, through stream_generate: they count as progress and as active, too."""

    def stream_generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        shard.progress.alone += 1
        first = True
        report = kwargs.get("prompt_progress_callback")

        def prefilled(done: int, total: int) -> None:
            shard.progress.stepped(0, 0)
            if report is not None:
                report(done, total)

        kwargs["prompt_progress_callback"] = prefilled
        try:
            for response in original(*args, **kwargs):
                shard.progress.stepped(response.prompt_tokens if first else 0, 1)
                first = False
                yield response
        finally:
            shard.progress.alone -= 1

    return stream_generate
