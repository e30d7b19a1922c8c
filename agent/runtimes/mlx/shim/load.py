"""Loading that is complete or fails: every parameter that this rank computes with came from a file.

mlx-lm loads gangs with strict=False, and a folder that lacks a file then answers nonsense with HTTP 200. Strict loading of
the whole index is no way out: a pipeline rank may hold only the files of its own layers. So: first the files that this
rank needs, by name; after the load, each parameter that is left in the model.
"""

from __future__ import annotations

import json
import re
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm import server
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.pipeline import PipelineMixin

from .config import Config
from .shard import Shard

INDEX = "model.safetensors.index.json"
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
# KV caches grow in steps of this many tokens.
KV_STEP = 256


class IncompleteModel(Exception):
    """The folder does not hold what this rank needs; the message names the file or the parameters."""


def stage_of(config: Config) -> tuple[int, int] | None:
    """The layers [start, end) of this rank in model order; None without a split of ours."""
    split = config.engine_split
    if split is None:
        return None
    # MLX rank 0 has the last layers: before ours come those of all higher ranks.
    start = sum(split[config.rank + 1 :])
    return start, start + split[config.rank]


def needed_files(weight_map: dict[str, str], stage: tuple[int, int] | None) -> set[str]:
    """Files with this rank's layers and with the tensors outside of layers, which every rank holds."""
    files = set()
    for name, file in weight_map.items():
        layer = LAYER.search(name)
        if stage is None or layer is None or stage[0] <= int(layer.group(1)) < stage[1]:
            files.add(file)
    return files


def check_files(config: Config) -> int:
    """How many weight files this rank reads. Raises IncompleteModel with the first file that is not there."""
    for name in ("config.json", *([INDEX] if config.strategy == "Pipeline" else [])):
        if not (config.model / name).is_file():
            raise IncompleteModel(f"{name} is missing in {config.model}")
    if not (config.model / INDEX).is_file():
        return len(list(config.model.glob("model*.safetensors")))
    weight_map = json.loads((config.model / INDEX).read_text(encoding="utf-8"))["weight_map"]
    files = needed_files(weight_map, stage_of(config))
    missing = sorted(file for file in files if not (config.model / file).is_file())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise IncompleteModel(f"{missing[0]}{more} is missing in {config.model}")
    return len(files)


def record_loaded_names() -> set[str]:
    """Makes nn.Module.load_weights note the names it was given, and check shapes, which strict=False leaves out."""
    names: set[str] = set()
    original = nn.Module.load_weights

    def load_weights(self: nn.Module, file_or_weights: Any, strict: bool = True) -> nn.Module:
        if isinstance(file_or_weights, list):
            known = tree_flatten(self.parameters(), destination={})
            for name, value in file_or_weights:
                if name in known and known[name].shape != value.shape:
                    raise IncompleteModel(
                        f"{name} has shape {value.shape} in the files, {known[name].shape} in the model"
                    )
            names.clear()
            names.update(name for name, _ in file_or_weights)
        return original(self, file_or_weights, strict)

    nn.Module.load_weights = load_weights
    return names


def pass_split(ours: list[int]) -> None:
    """mlx-lm can divide layers unevenly, but its server has no flag for it. Ours wins over a division that an architecture
    makes up by itself (bailing_hybrid does)."""
    original = PipelineMixin.pipeline

    def pipeline(self: Any, group: Any, split: list[int] | None = None) -> None:
        original(self, group, ours)

    PipelineMixin.pipeline = pipeline


class PinnedModelProvider(server.ModelProvider):
    """Serves one model for the life of the process: mlx-lm would load whatever path a client names."""

    def __init__(self, shard: Shard, cli_args: Any) -> None:
        super().__init__(cli_args)
        self._shard = shard
        self._loaded_names = record_loaded_names()
        # The served name is another word for the one model, so that answers carry it.
        served = shard.config.served_name
        for known in (self._model_map, self._adapter_map, self._draft_model_map):
            known[served] = known["default_model"]

    def load(self, model_path: Any, adapter_path: Any = None, draft_model_path: Any = None) -> tuple[Any, Any]:
        if model_path not in (self._shard.config.served_name, "default_model") or adapter_path is not None:
            raise ValueError(f"this shard serves {self._shard.config.served_name!r} only")
        return super().load(model_path, None, "default_model")

    def load_default(self) -> None:
        shard = self._shard
        files = check_files(shard.config)
        super().load_default()
        layers = self._check_complete()
        harden_detokenizer(self.tokenizer)
        bytes_per_token = warm_up(self.model, shard)
        self.cli_args.decode_concurrency = shard.slots.limit
        shard.life.emit(
            "loaded",
            s=shard.life.seconds(),
            active=mx.get_active_memory(),
            peak=mx.get_peak_memory(),
            layers=layers,
            files=files,
            kvBytesPerToken=bytes_per_token,
            kvTokens=shard.kv_tokens,
            concurrency=shard.slots.limit,
        )

    def _check_complete(self) -> tuple[int, int]:
        """The layers held, after making sure that all of them, and everything beside them, came from a file."""
        present = {name for name, x in tree_flatten(self.model.parameters()) if isinstance(x, mx.array)}
        missing = sorted(present - self._loaded_names)
        if missing:
            raise IncompleteModel(f"{len(missing)} parameters came from no file, the first is {missing[0]}")
        if self.pipeline_group is None:
            return 0, len(self.model.layers)
        start, end = self.model.model.start_idx, self.model.model.end_idx
        wanted = stage_of(self._shard.config)
        if wanted is not None and wanted != (start, end):
            raise IncompleteModel(f"this architecture takes no split: it holds layers {start}:{end}, not {wanted}")
        return start, end


def warm_up(model: Any, shard: Shard) -> int:
    """One token through the model, on all ranks together: what cannot compute fails now and not at a client's request.

    Learns the width of the head and what KV cache really costs, and from that how many tokens the budget holds and how
    many requests at once. Returns the bytes per token on this rank.
    """
    cache = make_prompt_cache(model)
    logits = model(mx.array([[0]]), cache=cache)
    mx.eval(logits)
    shard.head_ids = logits.shape[-1]
    fixed, bytes_per_token = cache_cost(cache, shard.config.context_tokens)
    shard.kv_tokens = _agree(_budget_tokens(shard.config, fixed, bytes_per_token), shard.config)
    shard.slots.limit = max(1, min(shard.config.concurrency, shard.kv_tokens // shard.config.context_tokens))
    return bytes_per_token


def cache_cost(cache: list[Any], context_tokens: int) -> tuple[int, int]:
    """Bytes per sequence and bytes per token of it, from the caches after one token."""
    fixed = growing = 0
    for part in (part for c in cache for part in getattr(c, "caches", (c,))):
        window = getattr(part, "max_size", None)
        if not hasattr(part, "step"):
            # The state of a recurrent layer: it never grows.
            fixed += part.nbytes
        elif window:
            fixed += part.nbytes // min(KV_STEP, window) * min(window, context_tokens)
        else:
            growing += part.nbytes
    return fixed, -(-growing // KV_STEP)


def _budget_tokens(config: Config, fixed: int, bytes_per_token: int) -> int:
    if config.kv_budget_bytes is None or bytes_per_token == 0:
        return config.concurrency * config.context_tokens
    return max(0, config.kv_budget_bytes - config.concurrency * fixed) // bytes_per_token


def _agree(tokens: int, config: Config) -> int:
    """The smallest budget of all ranks. Ranks that evict different prompts would prefill different lengths and hang."""
    if not config.gang:
        return tokens
    # float32 cannot hold large whole numbers; int32 can hold more tokens than any memory.
    return int(mx.distributed.all_min(mx.array(min(tokens, 2**31 - 1), dtype=mx.int32)).item())


def harden_detokenizer(tokenizer: Any) -> None:
    """A head wider than the vocabulary can produce ids without a text. mlx-lm's detokenizers raise on some, and that
    would end the generator for everybody; such a token is now nothing."""
    plain = type(tokenizer._detokenizer)

    class Hardened(plain):  # type: ignore[misc, valid-type]
        def add_token(self, token: int) -> None:
            try:
                super().add_token(token)
            except (IndexError, KeyError, TypeError, OverflowError):
                pass

        def finalize(self) -> None:
            try:
                super().finalize()
            except (IndexError, KeyError, TypeError, OverflowError):
                if hasattr(self, "_unflushed"):
                    self._unflushed = type(self._unflushed)()

    tokenizer._detokenizer.__class__ = Hardened
