"""Makes the demo model: the GGUF of SmolLM2-135M-Instruct becomes an MLX folder that can be served in every division.

    python demo_model.py --gguf FILE.gguf --out NEW_FOLDER

SmolLM2 is a Llama (9 heads of 64, 3 KV heads). Written as `llama`, mlx-lm cannot pipeline it; as `qwen2` it pipelines, but
qwen2 takes hidden/heads as the width of a head, so its heads cannot be padded, and 9/3 divide by no 2. `ministral3` is the
same mathematics (its query scale is 1 with beta 0), pipelines with any split, shards, and has its own `head_dim`.
So: ministral3 with heads padded from 9/3 to 12/4 by zeros, which changes no number: zero values of a head times zero
columns of o_proj. Quantised weights stay packed as they are in the GGUF.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mlx.core as mx

HEADS = 12
KV_HEADS = 4
LAYERS_PER_FILE = 5
GROUP = 32
# GGUF token types that are not ordinary text.
CONTROL_TOKEN = 3

Weights = dict[str, mx.array]
Metadata = dict[str, Any]

LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def mlx_name(gguf_name: str) -> str:
    """`blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`."""
    stem, part = gguf_name.rsplit(".", 1)
    if stem.startswith("blk."):
        _, layer, name = stem.split(".")
        return f"model.layers.{layer}.{LAYER_NAMES[name]}.{part}"
    return f"{TOP_NAMES[stem]}.{part}"


def unpermute(x: mx.array, heads: int) -> mx.array:
    """llama.cpp interleaves the rows of q and k for its own rope; MLX wants the halves of each head side by side."""
    rows, columns = x.shape
    return x.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def pad_rows(x: mx.array, rows: int) -> mx.array:
    return mx.concatenate([x, mx.zeros((rows - x.shape[0], x.shape[1]), x.dtype)])


def pad_columns(x: mx.array, old_heads: int, heads: int) -> mx.array:
    """Packed columns and groups lie head by head: 64 values of a head are whole groups of 32."""
    columns = x.shape[1] * heads // old_heads
    return mx.concatenate([x, mx.zeros((x.shape[0], columns - x.shape[1]), x.dtype)], axis=1)


def float_type() -> mx.Dtype:
    """Half floats are emulated on the CPU (40 times slower); on Metal they are the native ones."""
    return mx.float16 if mx.metal.is_available() else mx.float32


def shape_of(meta: Metadata) -> dict[str, Any]:
    """The figures of the GGUF header that the rest needs."""

    def number(key: str) -> Any:
        return meta[f"llama.{key}"].item()

    return {
        "hidden": number("embedding_length"),
        "layers": number("block_count"),
        "ff": number("feed_forward_length"),
        "heads": number("attention.head_count"),
        "kv_heads": number("attention.head_count_kv"),
        "eps": number("attention.layer_norm_rms_epsilon"),
        "rope": number("rope.freq_base"),
        "context": number("context_length"),
        "vocab": len(meta["tokenizer.ggml.tokens"]),
    }


def convert(gguf: Weights, shape: dict[str, Any], heads: int = HEADS, kv_heads: int = KV_HEADS) -> Weights:
    """GGUF tensors → MLX tensors: renamed, rows of q and k in MLX's order, heads padded, floats in the fast type."""
    head_dim = shape["hidden"] // shape["heads"]
    out: Weights = {}
    for gguf_name, x in gguf.items():
        name = mlx_name(gguf_name)
        if ".q_proj." in name:
            x = pad_rows(unpermute(x, shape["heads"]), heads * head_dim)
        elif ".k_proj." in name:
            x = pad_rows(unpermute(x, shape["kv_heads"]), kv_heads * head_dim)
        elif ".v_proj." in name:
            x = pad_rows(x, kv_heads * head_dim)
        elif ".o_proj." in name:
            x = pad_columns(x, shape["heads"], heads)
        out[name] = x if x.dtype == mx.uint32 else x.astype(float_type())
    return out


def config_of(shape: dict[str, Any], meta: Metadata, heads: int = HEADS, kv_heads: int = KV_HEADS) -> dict[str, Any]:
    quantization = {"group_size": GROUP, "bits": 4, "model.embed_tokens": {"group_size": GROUP, "bits": 8}}
    return {
        "architectures": ["Ministral3ForCausalLM"],
        "model_type": "ministral3",
        "hidden_size": shape["hidden"],
        "num_hidden_layers": shape["layers"],
        "intermediate_size": shape["ff"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": shape["hidden"] // shape["heads"],
        "rms_norm_eps": shape["eps"],
        "vocab_size": shape["vocab"],
        "max_position_embeddings": shape["context"],
        # Plain rope: with beta 0 ministral3's scale of the queries by position is exactly 1.
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": shape["rope"],
            "llama_4_scaling_beta": 0.0,
            "original_max_position_embeddings": shape["context"],
        },
        "tie_word_embeddings": True,
        "bos_token_id": int(meta["tokenizer.ggml.bos_token_id"].item()),
        "eos_token_id": int(meta["tokenizer.ggml.eos_token_id"].item()),
        "torch_dtype": str(float_type()).removeprefix("mlx.core."),
        "quantization": quantization,
        "quantization_config": quantization,
    }


def write_weights(folder: Path, weights: Weights, layers: int) -> None:
    """One file of the tensors that every rank needs, then files of a few layers: a pipeline rank reads only its own."""
    parts: list[Weights] = [{k: v for k, v in weights.items() if ".layers." not in k}]
    for start in range(0, layers, LAYERS_PER_FILE):
        own = [f"model.layers.{i}." for i in range(start, min(start + LAYERS_PER_FILE, layers))]
        parts.append({k: v for k, v in weights.items() if k.startswith(tuple(own))})
    weight_map = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        mx.save_safetensors(str(folder / file), part, metadata={"format": "mlx"})
        weight_map.update(dict.fromkeys(part, file))
    total = sum(x.nbytes for x in weights.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_tokenizer(folder: Path, meta: Metadata) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    tokens: list[str] = meta["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ", 1)) for m in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = meta["tokenizer.ggml.token_type"].tolist()
    special = [AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, types) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))

    def token(key: str) -> str:
        return tokens[int(meta[f"tokenizer.ggml.{key}_token_id"].item())]

    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "pad_token": token("padding"),
        "unk_token": token("unknown"),
        "model_max_length": int(meta["llama.context_length"].item()),
        "clean_up_tokenization_spaces": False,
        "chat_template": meta["tokenizer.chat_template"],
    }
    write_json(folder / "tokenizer_config.json", config)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def make_demo_model(gguf: Path, out: Path) -> None:
    weights, meta = mx.load(str(gguf), return_metadata=True)
    shape = shape_of(meta)
    out.mkdir(parents=True)
    write_weights(out, convert(weights, shape), shape["layers"])
    write_tokenizer(out, meta)
    write_json(out / "config.json", config_of(shape, meta))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the demo model's MLX folder out of its GGUF.")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    arguments = parser.parse_args()
    make_demo_model(arguments.gguf, arguments.out)


if __name__ == "__main__":
    main()
