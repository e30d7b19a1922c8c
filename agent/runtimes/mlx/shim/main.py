"""One rank of a model on mlx: `python main.py --config FILE.json`, started by a shardhost and watched by it.

Environment: MLX_RANK and MLX_HOSTFILE (ring) in a gang, neither for one rank; MCTL_EVENTS_FD, where events go as JSON lines.
Ends with 70 engine failed · 75 parent gone · 64 launch file or world does not fit · 65 mlx-lm is not the build that the shim
knows · −14 a deadline that only the kernel could keep · 0 only when a stop was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

# Before the first import of our own: the code lies in a checkout or an installed package, which is not ours to write to.
sys.dont_write_bytecode = True
# `python -I` leaves the script's folder out of the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shim import watch  # noqa: E402
from shim.config import Config, ConfigError, read_config  # noqa: E402
from shim.life import UNSUPPORTED_BUILD, WORLD_MISMATCH, Life  # noqa: E402
from shim.progress import start_heartbeat  # noqa: E402
from shim.shard import Shard  # noqa: E402

# Whatever the launcher or a login shell says: no network, no deadlock after a fork, no GPU wedged until a reboot.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MLX_METAL_FAST_SYNCH": "0",
}
# What a backend needs in the environment: the first names the rank, the second a file with one entry per rank.
GANG_VARIABLES = {"ring": ("MLX_RANK", "MLX_HOSTFILE"), "jaccl": ("MLX_RANK", "MLX_IBV_DEVICES")}
# Kept freed buffers: enough for the next step, little beside the weights.
CACHE_LIMIT_BYTES = 512 * 2**20
# Our own deadline speaks first and gives a reason; the OS timer is for when Python cannot.
BACKSTOP_SECONDS = 10


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", type=Path, required=True)
    path = arguments.parse_args().config
    try:
        config = read_config(path)
    except ConfigError as e:
        Life(0).fail(str(e), WORLD_MISMATCH)
    shard = Shard(config, Life(config.rank))
    try:
        run(shard)
    except BaseException as error:
        shard.life.fail_with(error, shard.progress.phase)
    shard.life.fail("mlx_lm.server ended")


def run(shard: Shard) -> None:
    config, life = shard.config, shard.life
    os.environ.update(ENVIRONMENT)
    life.emit("start", world=config.world_size)
    watch.follow_parent(life, config.parent_pid)
    check_world(config, life)
    join(shard)
    shard.progress.phase = "loading"
    watch.arm(config.startup_deadline_seconds - life.seconds() + BACKSTOP_SECONDS)
    watch.stop_on_signals(life)
    start_heartbeat(life, shard.progress, config.startup_deadline_seconds)
    life.emit("loading")
    prepare_device(config)
    take_hold(shard)
    serve(config)


def check_world(config: Config, life: Life) -> None:
    """A rank without its environment would quietly become a world of one and load the whole model."""
    if not config.gang:
        stray = [name for name in ("MLX_RANK", "MLX_HOSTFILE", "MLX_IBV_DEVICES") if name in os.environ]
        if stray:
            life.fail(f"{stray[0]} is set for a model that runs alone", WORLD_MISMATCH)
        return
    rank, file = (os.environ.get(name) for name in GANG_VARIABLES[str(config.backend)])
    if rank is None or file is None:
        life.fail(f"{' or '.join(GANG_VARIABLES[str(config.backend)])} is not set", WORLD_MISMATCH)
    if rank != str(config.rank):
        life.fail(f"MLX_RANK is {rank}, rank is {config.rank}", WORLD_MISMATCH)
    hosts = json.loads(Path(file).read_text(encoding="utf-8"))
    if len(hosts) != config.world_size:
        life.fail(f"{file} has {len(hosts)} entries, worldSize is {config.world_size}", WORLD_MISMATCH)


def join(shard: Shard) -> None:
    """Meets the other ranks. Strict: no silent fall back to a world of one."""
    config, life = shard.config, shard.life
    shard.progress.phase = "rendezvous"
    watch.arm(config.rendezvous_deadline_seconds)
    import mlx.core as mx

    if config.gang:
        group = mx.distributed.init(strict=True, backend=config.backend)
        if (group.rank(), group.size()) != (config.rank, config.world_size):
            life.fail(f"joined as {group.rank()} of {group.size()}", WORLD_MISMATCH)
    life.emit("joined", world=config.world_size, s=life.seconds())


def prepare_device(config: Config) -> None:
    """mlx would keep freed buffers up to the whole budget of the GPU, and mlx-lm would wire that much."""
    import mlx.core as mx

    if not mx.metal.is_available():
        # On a CPU mlx compiles with g++ at first use: 2 to 4 s in the middle of a request, and nothing is faster after.
        mx.disable_compile()
    mx.set_cache_limit(CACHE_LIMIT_BYTES)
    if config.memory_limit_bytes is not None:
        mx.set_memory_limit(config.memory_limit_bytes)


def wired_limit(config: Config) -> int | None:
    """What mlx-lm would set to the recommended maximum: no more than this shard's own bytes. None off Metal."""
    import mlx.core as mx

    recommended = mx.device_info().get("max_recommended_working_set_size") if mx.metal.is_available() else None
    if recommended is None:
        return None
    return int(mx.set_wired_limit(min(recommended, config.memory_limit_bytes or recommended)))


def take_hold(shard: Shard) -> None:
    """Puts our subclasses in the place of mlx_lm.server's. They are imported here: they are made of its classes."""
    from shim.features import missing_features

    missing = missing_features()
    if missing:
        shard.life.fail("this mlx-lm is not supported: " + "; ".join(missing), UNSUPPORTED_BUILD)
    from mlx_lm import server

    from shim import door, generator, load

    config = shard.config
    if config.engine_split is not None:
        load.pass_split(config.engine_split)
    caches: list[Any] = []

    def prompt_cache(max_size: int) -> Any:
        caches.append(generator.BoundedPromptCache(shard, max_size))
        return caches[-1]

    server.LRUPromptCache = prompt_cache
    server.BatchGenerator = lambda *args, **kwargs: generator.CountedBatchGenerator(shard, caches[-1], *args, **kwargs)
    server.ModelProvider = partial(load.PinnedModelProvider, shard)
    server.ResponseGenerator = partial(generator.WatchedResponseGenerator, shard)
    server.stream_generate = generator.counted_alone(shard, server.stream_generate)
    server._run_http_server = door.guarded_http(shard, server._run_http_server)
    for module in ("mlx_lm.server", "mlx_lm.generate"):
        # `mlx_lm.generate` as an attribute is a function of that name.
        sys.modules[module].maybe_set_recommended_wired_limit = partial(wired_limit, config)  # type: ignore[attr-defined]


def serve(config: Config) -> None:
    from mlx_lm import server

    sys.argv = [
        "mlx_lm.server",
        *("--model", str(config.model)),
        *("--host", "127.0.0.1"),
        *("--port", str(config.port)),
        *("--decode-concurrency", str(config.concurrency)),
        # One prompt at a time: two could start while others decode, and exceed the KV budget.
        *("--prompt-concurrency", "1"),
        *("--prefill-step-size", str(config.prefill_step_size)),
        *("--prompt-cache-size", str(2 * config.concurrency + 2)),
        *("--max-tokens", str(config.max_output_tokens)),
        # No web page may read answers.
        *("--allowed-origins", ""),
        *("--log-level", "WARNING"),
        *(["--pipeline"] if config.strategy == "Pipeline" else []),
    ]
    server.main()


if __name__ == "__main__":
    main()
