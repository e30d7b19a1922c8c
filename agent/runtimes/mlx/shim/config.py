"""The launch file of one rank: what the agent's runtime writes and nothing else. Checked whole before anything starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STRATEGIES = ("Single", "Pipeline", "Tensor")


class ConfigError(Exception):
    """The launch file cannot be obeyed; the message names the key."""


@dataclass(frozen=True)
class Config:
    model: Path
    served_name: str
    strategy: str
    rank: int
    world_size: int
    backend: str | None
    # Layers per stage of ours, stage 0 = embedding side. None: mlx-lm divides evenly.
    split: tuple[int, ...] | None
    port: int
    context_tokens: int
    max_output_tokens: int
    concurrency: int
    kv_budget_bytes: int | None
    memory_limit_bytes: int | None
    rendezvous_deadline_seconds: float
    startup_deadline_seconds: float
    prefill_step_size: int
    parent_pid: int

    @property
    def gang(self) -> bool:
        return self.world_size > 1

    @property
    def engine_split(self) -> list[int] | None:
        """Layers by MLX rank. mlx-lm gives rank 0 the last layers: rank r of p holds our stage p−1−r."""
        return list(reversed(self.split)) if self.split else None


def read_config(path: Path) -> Config:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ConfigError(f"cannot read the launch file {path}: {e}") from e
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return parse_config(raw)


def parse_config(raw: dict[str, Any]) -> Config:
    config = Config(
        model=Path(_text(raw, "model")),
        served_name=_text(raw, "servedName"),
        strategy=_text(raw, "strategy"),
        rank=_whole(raw, "rank", 0),
        world_size=_whole(raw, "worldSize", 1),
        backend=raw.get("backend"),
        split=_split(raw.get("split")),
        port=_whole(raw, "port", 0),
        context_tokens=_whole(raw, "contextTokens", 1),
        max_output_tokens=_whole(raw, "maxOutputTokens", 1),
        concurrency=_whole(raw, "concurrency", 1),
        kv_budget_bytes=_optional_whole(raw, "kvBudgetBytes"),
        memory_limit_bytes=_optional_whole(raw, "memoryLimitBytes"),
        rendezvous_deadline_seconds=_seconds(raw, "rendezvousDeadlineSeconds"),
        startup_deadline_seconds=_seconds(raw, "startupDeadlineSeconds"),
        prefill_step_size=_whole(raw, "prefillStepSize", 1),
        parent_pid=_whole(raw, "parentPid", 1),
    )
    _check_whole(config)
    return config


def _check_whole(config: Config) -> None:
    """What no single key can tell."""
    if config.strategy not in STRATEGIES:
        raise ConfigError(f"strategy: {config.strategy!r} is none of {', '.join(STRATEGIES)}")
    if config.gang != (config.strategy != "Single"):
        raise ConfigError(f"worldSize: {config.world_size} does not fit strategy {config.strategy}")
    if config.rank >= config.world_size:
        raise ConfigError(f"rank: {config.rank} is not below worldSize {config.world_size}")
    if config.gang and config.backend not in ("ring", "jaccl"):
        raise ConfigError(f"backend: {config.backend!r} is none of ring, jaccl")
    if config.split is not None and config.strategy != "Pipeline":
        raise ConfigError("split: only a pipeline has stages")
    if config.split is not None and len(config.split) != config.world_size:
        raise ConfigError(f"split: {len(config.split)} stages for worldSize {config.world_size}")


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}: must be a text that is not empty")
    return value


def _whole(raw: dict[str, Any], key: str, least: int) -> int:
    value = raw.get(key)
    if type(value) is not int or value < least:
        raise ConfigError(f"{key}: must be a whole number of at least {least}")
    return value


def _optional_whole(raw: dict[str, Any], key: str) -> int | None:
    return None if raw.get(key) is None else _whole(raw, key, 1)


def _seconds(raw: dict[str, Any], key: str) -> float:
    value = raw.get(key)
    if type(value) not in (int, float) or value <= 0:
        raise ConfigError(f"{key}: must be a number of seconds above 0")
    return float(value)


def _split(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or any(type(n) is not int or n < 1 for n in value):
        raise ConfigError("split: must be a list of whole numbers of at least 1, one per stage")
    return tuple(value)
