"""Does this mlx-lm have what the shim takes hold of? Asked first: a half-guarded engine must not run."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

# mlx 0.32.1 and older never notice a dead ring peer and hang for ever.
LEAST_MLX = (0, 32, 2)

# (module, dotted name, parameters that the shim relies on).
TAKEN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("mlx_lm.server", "main", ()),
    ("mlx_lm.server", "_run_http_server", ("host", "port", "response_generator", "server_class", "handler_class")),
    ("mlx_lm.server", "stream_generate", ("model", "tokenizer", "prompt")),
    ("mlx_lm.server", "maybe_set_recommended_wired_limit", ()),
    ("mlx_lm.generate", "maybe_set_recommended_wired_limit", ()),
    ("mlx_lm.server", "CompletionRequest", ("request_type", "prompt", "messages", "tools", "role_mapping")),
    ("mlx_lm.server", "ModelProvider.load_default", ("self",)),
    ("mlx_lm.server", "ModelProvider._load", ("self", "model_path", "adapter_path", "draft_model_path")),
    ("mlx_lm.server", "ModelProvider.load", ("self", "model_path", "adapter_path", "draft_model_path")),
    ("mlx_lm.server", "ResponseGenerator.__init__", ("self", "model_provider", "prompt_cache")),
    ("mlx_lm.server", "ResponseGenerator._generate", ("self",)),
    ("mlx_lm.server", "ResponseGenerator._next_request", ("self", "timeout")),
    ("mlx_lm.server", "ResponseGenerator._tokenize", ("self", "tokenizer", "request", "args")),
    ("mlx_lm.server", "ResponseGenerator.generate", ("self", "request", "generation_args", "progress_callback")),
    ("mlx_lm.server", "ResponseGenerator.is_healthy", ()),
    ("mlx_lm.server", "LRUPromptCache.insert_cache", ("self", "model", "tokens", "prompt_cache", "cache_type")),
    ("mlx_lm.server", "LRUPromptCache.trim_to", ("self", "n_sequences")),
    ("mlx_lm.server", "BatchGenerator.next", ("self",)),
    ("mlx_lm.server", "BatchGenerator.insert_segments", ("self", "segments", "max_tokens", "caches")),
    ("mlx_lm.server", "APIHandler.do_POST", ("self",)),
    ("mlx_lm.server", "APIHandler.do_GET", ("self",)),
    ("mlx_lm.models.pipeline", "PipelineMixin.pipeline", ("self", "group", "split")),
    ("mlx_lm.models.cache", "make_prompt_cache", ("model",)),
    ("mlx.nn", "Module.load_weights", ("self", "file_or_weights", "strict")),
    ("mlx.core", "distributed.init", ()),
    ("mlx.core", "distributed.all_min", ()),
    ("mlx.core", "set_memory_limit", ()),
    ("mlx.core", "set_cache_limit", ()),
    ("mlx.core", "set_wired_limit", ()),
)


def missing_features() -> list[str]:
    """What is not there, one sentence each; empty = this build is the one that the shim was written for."""
    return [problem for taken in TAKEN if (problem := _problem(*taken))] + _old_mlx()


def _problem(module: str, name: str, parameters: tuple[str, ...]) -> str | None:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return f"{module}.{name} is missing"
    if not parameters:
        return None
    lost = set(parameters) - set(inspect.signature(found).parameters)
    return f"{module}.{name} takes no {', '.join(sorted(lost))}" if lost else None


def _old_mlx() -> list[str]:
    import mlx.core as mx

    version = tuple(int(part) for part in mx.__version__.split(".")[:3] if part.isdigit())
    return [] if version >= LEAST_MLX else [f"mlx {mx.__version__} is older than {'.'.join(map(str, LEAST_MLX))}"]
