"""Is the padded demo model the same as the Llama it was made of? Prints {"equal": …, "text": …}.

    python demo_model_check.py DEMO_MODEL_FOLDER

Takes the padding off again, puts the rest into mlx-lm's llama, and compares the greedy tokens of both.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import stream_generate
from mlx_lm.utils import load, load_model

HEADS, KV_HEADS = 9, 3
PROMPT = "The capital of France"
TOKENS = 8


def without_padding(name: str, x: mx.array, heads: int) -> mx.array:
    if any(part in name for part in (".q_proj.", ".k_proj.", ".v_proj.")):
        # 12 and 4 heads became of 9 and 3: three quarters of the rows.
        return x[: x.shape[0] * HEADS // heads]
    if ".o_proj." in name:
        return x[:, : x.shape[1] * HEADS // heads]
    return x


def llama_of(folder: Path, out: Path) -> None:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    weights = {}
    for file in sorted(folder.glob("model*.safetensors")):
        weights.update({name: without_padding(name, x, heads) for name, x in mx.load(str(file)).items()})
    config.update(model_type="llama", num_attention_heads=HEADS, num_key_value_heads=KV_HEADS)
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    out.mkdir(parents=True)
    mx.save_safetensors(str(out / "model.safetensors"), weights, metadata={"format": "mlx"})
    (out / "config.json").write_text(json.dumps(config))


def greedy(model: Any, tokenizer: Any) -> tuple[list[int], str]:
    answers = list(stream_generate(model, tokenizer, PROMPT, max_tokens=TOKENS))
    return [answer.token for answer in answers], "".join(answer.text for answer in answers)


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    mx.disable_compile()
    padded, tokenizer = load(str(folder))
    llama_of(folder, out)
    ids, text = greedy(padded, tokenizer)
    print(json.dumps({"equal": ids == greedy(load_model(out)[0], tokenizer)[0], "text": text}))


if __name__ == "__main__":
    main()
