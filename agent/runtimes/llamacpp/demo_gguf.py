"""Makes the demo model of the engine llamacpp: the GGUF of SmolLM2-135M-Instruct with its 4-bit weights written out in 16 bit.

    python demo_gguf.py --gguf FILE.gguf --out NEW_FILE.gguf

llama.cpp rounds activations to 8 bit where weights are quantised, and so small a model then answers chats with nonsense; in
16 bit it says what MLX says of the same weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlx.core as mx

GROUP = 32
MOSTLY_F16 = 1


def written_out(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """Weight, scales and biases of a matrix become the matrix; norms stay as they are, in 32 bit."""
    out = {}
    for name, x in tensors.items():
        if name.endswith((".scales", ".biases")):
            continue
        stem = name.removesuffix(".weight")
        scales = tensors.get(f"{stem}.scales")
        if scales is None:
            out[name] = x.astype(mx.float32)
            continue
        biases = tensors[f"{stem}.biases"].astype(mx.float32)
        bits = x.shape[1] * 32 // (scales.shape[1] * GROUP)
        whole = mx.dequantize(x, scales.astype(mx.float32), biases, group_size=GROUP, bits=bits)
        out[name] = whole.astype(mx.float16)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demo model's GGUF out in 16 bit.")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file to make")
    arguments = parser.parse_args()
    tensors, metadata = mx.load(str(arguments.gguf), return_metadata=True)
    metadata["general.file_type"] = mx.array(MOSTLY_F16, mx.uint32)
    mx.save_gguf(str(arguments.out), written_out(tensors), metadata)


if __name__ == "__main__":
    main()
