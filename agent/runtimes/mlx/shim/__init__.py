"""One rank of the engine mlx: mlx_lm.server made to keep the shard contract (docs: main.py)."""
