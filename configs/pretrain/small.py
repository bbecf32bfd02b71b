"""RoBERTa small: 4 layers x 256, for a laptop CPU.

Command    roberta-jax pretrain --config=configs/pretrain/small.py \\
             --config.data.path=DATASET --workdir=runs/small
Hardware   2 CPU cores; float32, because few CPUs multiply bfloat16 (those with AMX gain from
           --config.encoder.compute_dtype=bfloat16)
Time       see the README for a measured run on 148 MB of books
Source     none published at this size; betas, eps, decay and masking are RoBERTa's (paper, table 9)

A run of 6,000 steps sees 6,000 x 64 x 128 = 49M tokens.
"""

from roberta_jax import config as c


def get_config() -> c.PretrainConfig:
    """The recipe."""
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=128),
        encoder=c.EncoderConfig(
            num_layers=4,
            hidden_size=256,
            num_heads=4,
            mlp_size=1024,
            max_positions=128,
            compute_dtype="float32",
        ),
        optimizer=c.OptimizerConfig(
            peak_learning_rate=1e-3, warmup_steps=600, clip_global_norm=1.0
        ),
        train=c.TrainConfig(
            num_steps=6_000,
            batch_size=64,
            log_every_steps=50,
            evaluate_every_steps=500,
            evaluation_rows=1_024,
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=500, keep_last=2, keep_best=1),
    )
