"""One of two ranks that measure a link through the engine: `python linkbench.py --parent PID --seconds N`.

Environment: MLX_RANK and MLX_HOSTFILE, as for a gang of two. Rank 0 prints one JSON line:
  allReduceMicros   one all-reduce among steps of a model: what tensor parallel pays twice per layer
  hopMicros         what a token waits at the border of two pipeline stages: handed over, gathered, and one more wait for
                    the device
  vectorBytes       of the hidden vector that went over the link
Only arrays go over this ring, never objects: a stranger could spoil figures, and nothing else. Ends with 0, or says why on
stderr; what takes longer than N seconds is ended by the kernel, for the rendezvous holds the interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shim import watch  # noqa: E402
from shim.life import ENGINE_FAILED, WORLD_MISMATCH, Life  # noqa: E402

HIDDEN = 4096
# As many all-reduces as one token of a model of 28 layers waits for.
REDUCES = 56
HOPS = 8
ROUNDS_MAX = 12
# A slow link takes fewer rounds; all ranks stop after the same one.
ROUNDS_SECONDS = 1.5
MEMORY_LIMIT_BYTES = 64 * 2**20


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--parent", type=int, required=True)
    arguments.add_argument("--seconds", type=float, required=True)
    asked = arguments.parse_args()
    life = Life(int(os.environ.get("MLX_RANK", "0")))
    watch.follow_parent(life, asked.parent)
    watch.arm(asked.seconds)
    try:
        figures = measure(life)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(ENGINE_FAILED)
    if figures is not None:
        print(json.dumps(figures), flush=True)
    # Not through the interpreter's end: the ring's threads live.
    os._exit(0)


def measure(life: Life) -> dict[str, Any] | None:
    import mlx.core as mx

    mx.set_memory_limit(MEMORY_LIMIT_BYTES)
    mx.set_cache_limit(MEMORY_LIMIT_BYTES)
    group = mx.distributed.init(strict=True, backend="ring")
    if group.size() != 2:
        life.fail(f"the ring has {group.size()} ranks, not 2", WORLD_MISMATCH)
    # A CPU without half floats would be measured instead of the link.
    dtype = mx.float16 if mx.metal.is_available() else mx.float32
    vector = mx.ones((1, HIDDEN if dtype == mx.float16 else HIDDEN // 2), dtype=dtype)
    first = group.rank() == 0

    def reduces() -> Any:
        x = vector
        for _ in range(REDUCES):
            # Through the device and back each time, as between the layers of a model.
            x = mx.distributed.all_sum(x * 0.5, group=group)
        return x

    def alone() -> Any:
        x = vector
        for _ in range(REDUCES):
            x = x * 0.5 + x * 0.5
        return x

    def hop() -> Any:
        h = vector
        if first:
            h = mx.distributed.recv_like(h, 1, group=group)
        h = h * 0.5
        if not first:
            h = mx.distributed.send(h, 0, group=group)
        return mx.distributed.all_gather(h, group=group)[:1]

    def rounds(step: Callable[[], Any], times: int) -> float:
        """Seconds of one step: a quarter of the rounds were quicker."""
        took: list[float] = []
        for _ in range(ROUNDS_MAX):
            # Both begin together, and both know whether it was long enough.
            mine = mx.array(sum(took), dtype=mx.float32)
            if mx.distributed.all_sum(mine, group=group).item() > 2 * ROUNDS_SECONDS:
                break
            began = time.perf_counter()
            for _ in range(times):
                mx.eval(step())
            took.append(time.perf_counter() - began)
        # The first finds cold caches.
        settled = sorted(took[1:] or took)
        return settled[len(settled) // 4] / times

    reduced = (rounds(reduces, 1) - rounds(alone, 1)) / REDUCES
    hopped = rounds(hop, HOPS) - rounds(lambda: vector * 0.5, HOPS)
    if not first:
        return None
    micros = [max(1, round(seconds * 1e6)) for seconds in (reduced, hopped)]
    return {"allReduceMicros": micros[0], "hopMicros": micros[1], "vectorBytes": vector.nbytes}


if __name__ == "__main__":
    main()
