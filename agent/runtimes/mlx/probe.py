"""What this machine's mlx can do: prints one JSON object. Asked once per engine environment; the caller may keep the answer.

    python probe.py

An architecture (a config.json's model_type) counts as
  pipeline      its layers can be divided as the plan says;
  pipelineEven  it pipelines, but takes no split of ours: only an even division is certain;
  tensor        it can be sharded (whether heads and widths divide is the planner's question).
Looked up in the classes, not built: building asks for a config of each.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import json
import pkgutil
import platform
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BACKENDS = ("ring", "jaccl")
# `self.model = Name(` or `self.language_model = Name(` in a model's constructor.
PART = re.compile(r"self\.(model|language_model)\s*=\s*(\w+)\(")


def build_hash(mlx: str, mlx_lm: str, minor: str) -> str:
    """Ranks of one group must be of one build: same engine, same Python, same shim."""
    hash_ = hashlib.sha256(f"{mlx}\0{mlx_lm}\0{minor}\0".encode())
    for file in sorted((HERE / "shim").glob("*.py")):
        hash_.update(file.name.encode() + b"\0" + file.read_bytes())
    return hash_.hexdigest()[:12]


def inner_model(outer: type) -> type | None:
    """The class behind `model.model`, which holds the layers: made in the constructor, or a property over a part of it."""
    for maker in (c for c in outer.__mro__ if c.__module__.startswith("mlx_lm.") and "__init__" in vars(c)):
        # An inherited constructor speaks the names of the module that wrote it.
        module = sys.modules[maker.__module__]
        parts = dict(PART.findall(inspect.getsource(vars(maker)["__init__"])))
        if "model" in parts:
            return getattr(module, parts["model"], None)
        if "language_model" in parts and isinstance(inspect.getattr_static(outer, "model", None), property):
            part = getattr(module, parts["language_model"], None)
            return inner_model(part) if isinstance(part, type) else None
    return None


def pipeline_kind(outer: type) -> str | None:
    """mlx-lm pipelines what has `model.model.pipeline`; a split reaches it only through a parameter of that name."""
    method = getattr(inner_model(outer), "pipeline", None)
    if method is None:
        return None
    return "pipeline" if "split" in inspect.signature(method).parameters else "pipelineEven"


def architectures() -> dict[str, list[str]]:
    import mlx_lm.models
    from mlx_lm.utils import MODEL_REMAPPING

    found: dict[str, list[str]] = {"pipeline": [], "pipelineEven": [], "tensor": []}
    aliases: dict[str, list[str]] = {}
    for alias, name in MODEL_REMAPPING.items():
        aliases.setdefault(name, []).append(alias)
    for entry in pkgutil.iter_modules(mlx_lm.models.__path__):
        try:
            module = importlib.import_module(f"mlx_lm.models.{entry.name}")
        except BaseException:
            # Some want packages that are not ours, and one calls exit when it lacks them.
            continue
        outer = getattr(module, "Model", None)
        if not isinstance(outer, type):
            continue
        names = [entry.name, *aliases.get(entry.name, [])]
        if hasattr(outer, "shard"):
            found["tensor"] += names
        if (kind := pipeline_kind(outer)) is not None:
            found[kind] += names
    return {kind: sorted(names) for kind, names in found.items()}


def probe() -> dict[str, Any]:
    import mlx.core as mx
    import mlx_lm

    minor = ".".join(platform.python_version_tuple()[:2])
    metal = mx.metal.is_available()
    device = mx.device_info() if metal else {}
    return {
        "versions": {"python": platform.python_version(), "mlx": mx.__version__, "mlxLm": mlx_lm.__version__},
        "build": build_hash(mx.__version__, mlx_lm.__version__, minor),
        "backends": [name for name in BACKENDS if mx.distributed.is_available(name)],
        "metal": metal,
        "gpuMemoryBytes": device.get("max_recommended_working_set_size"),
        "device": device,
        **architectures(),
    }


if __name__ == "__main__":
    # One of mlx-lm's modules prints when it is imported.
    with contextlib.redirect_stdout(sys.stderr):
        answer = probe()
    print(json.dumps(answer))
