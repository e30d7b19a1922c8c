"""What the engine itself keeps for each architecture that it knows: the oracle for src/api/modelfiles.

    python model_families.py > families.json

For every module of mlx_lm.models that can be built from small sizes: a configuration, the names, types and shapes of
its parameters, their bytes, and the cache of each layer after one token. No files and no real weights. An architecture
that cannot be built so is named on stderr and left out.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import ArraysCache, CacheList, make_prompt_cache

LAYERS = 4
WINDOW = 32
# mlx_lm fills a cache in steps of this many tokens.
STEP = 256

# One configuration with the keys of every family: each takes those that it knows.
COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 96,
    "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    "norm_eps": 1e-5,
    "layernorm_epsilon": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "qkv_bias": False,
    "use_bias": False,
    "sliding_window": WINDOW,
    "partial_rotary_factor": 1.0,
    # mixtures
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "routed_scaling_factor": 1.0,
    "use_qk_norm": True,
    # recurrent layers
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "linear_allow_neg_eigval": True,
    "state_size": 8,
    "conv_kernel": 4,
    "use_conv_bias": True,
    "n_groups": 1,
    "time_step_rank": 4,
    "time_step_limit": [0.001, 100.0],
    "mamba_d_conv": 4,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_ssm": 128,
    "mamba_n_groups": 1,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "mamba_proj_bias": False,
    "mamba_conv_bias": True,
    "ssm_state_size": 8,
    "conv_bias": True,
    "conv_L_cache": 3,
}

MLA: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 16,
}
YARN = {
    "type": "yarn",
    "factor": 2,
    "mscale": 1,
    "mscale_all_dim": 1,
    "original_max_position_embeddings": 512,
    "beta_fast": 32,
    "beta_slow": 1,
}
ALTERNATING = ["sliding_attention", "full_attention"] * (LAYERS // 2)
ROPE = {"rope_type": "default", "rope_theta": 10000.0}

FAMILIES: dict[str, dict[str, Any]] = {
    "afmoe": {"layer_types": ALTERNATING},
    "apertus": {"rope_parameters": ROPE, "post_norm": False, "qk_norm": True},
    "baichuan_m1": {"sliding_window_layers": [1, 3], "conv_window": 2},
    "bailing_moe": {},
    "bailing_moe_linear": {"layer_group_size": 2, "group_norm_size": 1, "num_key_value_heads": 4},
    "cohere": {},
    "cohere2": {"sliding_window_pattern": 4},
    "deepseek": {"num_key_value_heads": 4},
    "deepseek_v2": {**MLA, "topk_method": "gready", "rope_scaling": YARN},
    "deepseek_v3": MLA,
    "deepseek_v32": MLA,
    "dots1": {},
    "ernie4_5": {},
    "exaone4": {"sliding_window_pattern": "LLLG"},
    "exaone_moe": {
        "layer_types": ALTERNATING,
        "is_moe_layer": [False, True, True, True],
        "sliding_windows": [WINDOW] * LAYERS,
        "rope_parameters": ROPE,
    },
    "falcon_h1": {},
    "gemma": {},
    "gemma2": {"layer_types": ALTERNATING},
    "gemma3_text": {"sliding_window_pattern": 2},
    "gemma3": {
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 64,
            "num_hidden_layers": 6,
            "intermediate_size": 128,
        }
    },
    "gemma4_text": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "num_kv_shared_layers": 2,
        "global_head_dim": 32,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 96,
        "num_experts": None,
    },
    "glm4": {},
    "glm4_moe": {},
    "glm4_moe_lite": MLA,
    "gpt2": {"n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_ctx": 512, "n_positions": 512},
    "gpt_bigcode": {"n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_inner": 128, "n_positions": 512},
    "gpt_neox": {"rotary_emb_base": 10000, "rotary_pct": 0.5, "use_parallel_residual": True},
    "gpt_oss": {"layer_types": ALTERNATING, "rope_parameters": ROPE},
    "granite": {
        "logits_scaling": 1.0,
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
    },
    "granitemoe": {
        "logits_scaling": 1.0,
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"] * (LAYERS // 2),
        "logits_scaling": 1.0,
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "position_embedding_type": "rope",
    },
    "helium": {},
    "hunyuan_v1_dense": {},
    "internlm2": {"bias": False},
    "internlm3": {},
    "jamba": {
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "layers_block_type": None,
    },
    "kimi_linear": {
        **MLA,
        "q_lora_rank": None,
        "num_experts_per_token": 2,
        "model_max_length": 512,
        "linear_attn_config": {
            "kda_layers": [1, 3],
            "full_attn_layers": [2, 4],
            "num_heads": 4,
            "head_dim": 16,
            "short_conv_kernel_size": 4,
        },
    },
    "lfm2": {
        "block_dim": 64,
        "block_ff_dim": 128,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1, 3],
    },
    "lfm2_moe": {"num_dense_layers": 1, "full_attn_idxs": [1, 3], "use_expert_bias": True},
    "llama": {"layer_types": ALTERNATING},
    "llama4": {
        "text_config": {
            **COMMON,
            "model_type": "llama4_text",
            "attention_chunk_size": WINDOW,
            "interleave_moe_layer_step": 1,
            "intermediate_size_mlp": 128,
            "attn_scale": 0.1,
            "num_experts_per_tok": 1,
            "attn_temperature_tuning": 4,
            "floor_scale": 8192,
            "use_qk_norm": True,
        }
    },
    "longcat_flash": {
        **MLA,
        "num_layers": LAYERS,
        "attention_method": "MLA",
        "zero_expert_type": "identity",
        "zero_expert_num": 2,
        "ffn_hidden_size": 128,
        "moe_topk": 2,
        "expert_ffn_hidden_size": 32,
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
    },
    "mamba": {},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "mellum": {"layer_types": ALTERNATING, "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    "mimo": {"num_nextn_predict_layers": 1},
    "mimo_v2_flash": {
        "hybrid_layer_pattern": [1, 0, 1, 0],
        "moe_layer_freq": [0, 1, 1, 1],
        "sliding_window_size": WINDOW,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "v_head_dim": 8,
        "swa_head_dim": 16,
        "swa_v_head_dim": 8,
        "swa_rope_theta": 10000.0,
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
        "attention_value_scale": None,
    },
    "minicpm": {"dim_model_base": 64, "scale_depth": 1.0, "scale_emb": 1.0},
    "minicpm3": {
        **MLA,
        "rope_scaling": {
            "short_factor": [1.0] * 4,
            "long_factor": [1.0] * 4,
            "original_max_position_embeddings": 512,
            "type": "longrope",
        },
        "dim_model_base": 64,
        "scale_depth": 1.0,
        "scale_emb": 1.0,
    },
    "minimax": {"rotary_dim": 16, "use_qk_norm": False},
    "ministral3": {
        "layer_types": ALTERNATING,
        "rope_parameters": {**ROPE, "llama_4_scaling_beta": 0.0, "original_max_position_embeddings": 512},
    },
    "mixtral": {},
    "nanbeige": {"num_loops": 2},
    "nemotron": {"hidden_act": "relu2", "norm_eps": 1e-5},
    "nemotron_h": {"hybrid_override_pattern": "M*-E", "mamba_hidden_act": "silu", "mlp_hidden_act": "relu2"},
    "olmo2": {},
    "olmo3": {"layer_types": ALTERNATING},
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"] * (LAYERS // 2), "rope_parameters": ROPE},
    "olmoe": {},
    "phi": {"num_key_value_heads": 4},
    "phi3": {},
    "phimoe": {
        "num_local_experts": 4,
        "lm_head_bias": False,
        "original_max_position_embeddings": 512,
        "rope_scaling": {
            "short_factor": [1.0] * 8,
            "long_factor": [1.0] * 8,
            "type": "longrope",
            "short_mscale": 1.0,
            "long_mscale": 1.0,
            "original_max_position_embeddings": 512,
        },
    },
    "plamo2": {
        "hidden_size_per_head": 16,
        "mamba_num_heads": 4,
        "mamba_step": 2,
        "attention_window_size": WINDOW,
        "num_key_value_heads": 2,
    },
    "plamo3": {"window_size": WINDOW, "sliding_window_pattern": 2},
    "qwen": {"kv_channels": 16, "no_bias": True, "seq_length": 512, "rotary_emb_base": 10000},
    "qwen2": {},
    "qwen2_moe": {},
    "qwen3": {},
    "qwen3_5": {
        "text_config": {
            **COMMON,
            "model_type": "qwen3_5_text",
            "full_attention_interval": 2,
            "rope_parameters": {**ROPE, "partial_rotary_factor": 1.0, "mrope_section": [4, 2, 2]},
            "num_experts": 0,
        }
    },
    "qwen3_moe": {},
    "qwen3_next": {"full_attention_interval": 2},
    "recurrent_gemma": {
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "attention_window_size": WINDOW,
        "num_key_value_heads": 1,
        "block_types": ["recurrent", "attention"],
    },
    "rwkv7": {
        "a_low_rank_dim": 8,
        "v_low_rank_dim": 8,
        "gate_low_rank_dim": 8,
        "decay_low_rank_dim": 8,
        "norm_eps": 1e-5,
    },
    "seed_oss": {},
    "smollm3": {"no_rope_layer_interval": 4},
    "solar_open": {},
    "stablelm": {
        "num_key_value_heads": 2,
        "use_qkv_bias": False,
        "qk_layernorm": False,
        "use_parallel_residual": False,
    },
    "starcoder2": {"norm_epsilon": 1e-5},
    "step3p5": {
        "num_attention_groups": 2,
        "layer_types": ALTERNATING,
        "moe_num_experts": 4,
        "moe_top_k": 2,
        "share_expert_dim": 32,
        "moe_layers_enum": "1,2,3",
    },
    "telechat3": {},
    "youtu_llm": MLA,
}
# As the `-4bit` repositories of mlx-community: packed weights, scales and biases, some modules packed otherwise.
QUANTIZED = {"llama": {}, "gpt_oss": {"mode": "mxfp4"}, "qwen3_moe": {}, "deepseek_v3": {}, "gemma3_text": {}}


def config_of(family: str, sizes: dict[str, Any]) -> dict[str, Any]:
    nested = "text_config" in sizes
    return {"model_type": family, **({} if nested else COMMON), **sizes}


def build(config: dict[str, Any], dtype: mx.Dtype) -> nn.Module:
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    # The engine's own classes may change what they are given.
    model = module.Model(module.ModelArgs.from_dict(json.loads(json.dumps(config))))
    model.update(tree_map(lambda x: x.astype(dtype) if mx.issubdtype(x.dtype, mx.floating) else x, model.parameters()))
    return model


def quantize(model: nn.Module, config: dict[str, Any], mode: str) -> None:
    """4 bit in groups of 32, but embedding and head 8 bit in groups of 64: widths of 64 allow no larger one."""
    own: dict[str, Any] = {"group_size": 32, "bits": 4, "mode": mode}

    def packing(path: str, module: nn.Module) -> Any:
        if not hasattr(module, "to_quantized") or getattr(module, "weight", mx.zeros((1, 1))).shape[-1] % 32:
            return False
        if "embed_tokens" in path or "lm_head" in path:
            config["quantization"][path] = {"group_size": 64, "bits": 8}
            return {"group_size": 64, "bits": 8}
        return True

    config["quantization"] = dict(own)
    nn.quantize(model, **own, class_predicate=packing)


def cache_parts(cache: Any) -> list[dict[str, int]]:
    if isinstance(cache, CacheList):
        return [part for c in cache.caches for part in cache_parts(c)]
    if isinstance(cache, ArraysCache):
        return [{"stateBytes": cache.nbytes}]
    window = getattr(cache, "max_size", None) or 0
    return [{"tokenBytes": cache.nbytes // min(STEP, window or STEP), "windowTokens": window}]


def describe(family: str, quantization: dict[str, Any] | None, dtype: mx.Dtype) -> dict[str, Any]:
    config = config_of(family, FAMILIES[family])
    model = build(config, dtype)
    if quantization is not None:
        quantize(model, config, quantization.get("mode", "affine"))
    parameters = tree_flatten(model.parameters())
    caches = make_prompt_cache(model)
    mx.eval(model(mx.array([[0]]), cache=caches))
    return {
        "family": family,
        "quantized": quantization is not None,
        "config": config,
        "tensors": [[name, str(x.dtype).removeprefix("mlx.core."), *x.shape] for name, x in parameters],
        "activeBytes": sum(x.nbytes for _, x in parameters),
        "caches": [cache_parts(cache) for cache in caches],
    }


def describe_any(family: str, quantization: dict[str, Any] | None) -> dict[str, Any]:
    """In 16 bit, as models come; the CPU computes some mixtures in 32 bit only."""
    try:
        return describe(family, quantization, mx.bfloat16)
    except RuntimeError:
        return describe(family, quantization, mx.float32)


def main() -> None:
    mx.disable_compile()
    wanted = sys.argv[1:] or list(FAMILIES)
    answers = []
    for family in wanted:
        for quantization in (None, QUANTIZED[family]) if family in QUANTIZED else (None,):
            try:
                answers.append(describe_any(family, quantization))
            except Exception as error:  # noqa: BLE001: which families can be built so is what this finds out
                print(f"{family}: {type(error).__name__}: {error}", file=sys.stderr)
    json.dump({"families": answers}, sys.stdout)


if __name__ == "__main__":
    main()
