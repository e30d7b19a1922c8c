"""Makes a tiny random model as an MLX folder: real architecture, real files, answers within milliseconds on a CPU.

    python tiny_models.py OUT_FOLDER --arch qwen2 --layers 5

The same arguments give the same bytes. Its vocabulary is the 256 bytes, <s> and </s>: one ASCII character is one token, so
a test can count tokens by counting characters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

HIDDEN = 128
HEADS = 8
KV_HEADS = 4
VOCAB = 258
BOS, EOS = 256, 257
LAYERS_PER_FILE = 2
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)


def config_of(arch: str, layers: int, kv_heads: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": arch,
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": kv_heads,
        "head_dim": HIDDEN // HEADS,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    if arch == "ministral3":
        config["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "llama_4_scaling_beta": 0.0,
            "original_max_position_embeddings": 4096,
        }
    return config


def random_weights(config: dict[str, Any], seed: int) -> dict[str, mx.array]:
    """Wide enough that no two logits tie: the sums of a tensor-sharded run are ordered differently and must not matter."""
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    key = mx.random.key(seed)
    weights = {}
    for name, x in tree_flatten(model.parameters()):
        key, own = mx.random.split(key)
        noise = mx.random.normal(x.shape, key=own)
        weights[name] = 1 + 0.1 * noise if "norm" in name else noise * (2.0 / max(x.shape[-1], 1) ** 0.5)
    # The end token must not come by chance: tests ask for a number of tokens and count them.
    weights["lm_head.weight"][EOS] = 0.0
    return weights


def write_weights(folder: Path, weights: dict[str, mx.array], layers: int) -> None:
    parts = [{k: v for k, v in weights.items() if ".layers." not in k}]
    for start in range(0, layers, LAYERS_PER_FILE):
        own = tuple(f"model.layers.{i}." for i in range(start, min(start + LAYERS_PER_FILE, layers)))
        parts.append({k: v for k, v in weights.items() if k.startswith(own)})
    weight_map = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        mx.save_safetensors(str(folder / file), part, metadata={"format": "mlx"})
        weight_map.update(dict.fromkeys(part, file))
    total = sum(x.nbytes for x in weights.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", config)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def make_tiny_model(out: Path, arch: str, layers: int, kv_heads: int, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    config = config_of(arch, layers, kv_heads)
    write_weights(out, random_weights(config, seed), layers)
    write_tokenizer(out)
    write_json(out / "config.json", config)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a tiny random model.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--arch", choices=["llama", "ministral3", "qwen2", "qwen3"], default="qwen2")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--kv-heads", type=int, default=KV_HEADS)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    make_tiny_model(arguments.out, arguments.arch, arguments.layers, arguments.kv_heads, arguments.seed)


if __name__ == "__main__":
    main()
