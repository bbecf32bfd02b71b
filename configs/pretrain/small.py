r"""RoBERTa small: 4 layers x 256, half an hour on a laptop's CPU.

Command    roberta-jax pretrain --config=configs/pretrain/small.py \
             --config.data.path=DATASET --workdir=runs/small
           A CPU that multiplies bfloat16 (lscpu lists avx512_bf16 or amx_bf16) is 1.4 times faster
           with --config.encoder.compute_dtype=bfloat16.
Hardware   2 CPU cores
Data       rows of 128 tokens, such as 148 MB of books with a vocabulary of 16,384
Time       README.md has a measured run
Source     none published at this size; betas, epsilon, decay and masking are RoBERTa's (paper,
           table 9), warm-up and rate are ours

4,000 steps x 32 rows x 128 tokens = 16.4M tokens, less than one pass over those books: nothing is
seen twice, so there is no dropout.
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
            embedding_dropout_rate=0.0,
            dropout_rate=0.0,
            attention_dropout_rate=0.0,
            compute_dtype="float32",
        ),
        optimizer=c.OptimizerConfig(peak_learning_rate=1.5e-3, clip_global_norm=1.0),
        schedule=c.ScheduleConfig(kind="linear", warmup="300 steps"),
        train=c.TrainConfig(
            duration="4_000 steps",
            batch_size=32,
            log_every_steps=50,
            evaluate_every_steps=500,
            evaluation_rows=1_024,
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=500, keep_last=2, keep_best=1),
    )
