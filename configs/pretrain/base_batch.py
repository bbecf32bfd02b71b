r"""RoBERTa base with batches of 256, 2K or 8K rows over equal passes: the paper's table 3.

Command    roberta-jax pretrain --config=configs/pretrain/base_batch.py:2k \
             --config.data.path=DATASET --workdir=runs/base-2k
           256 (the default), 2k or 8k after the colon; `roberta-jax report` draws several of them
           over the rows that they have seen.
Hardware   79 EFLOP each (step_flops in roberta_jax/train/hardware.py): 55 hours of one H200 at
           40% of its peak. Not measured.
Data       BooksCorpus and English Wikipedia (16 GB of text) in the paper; rows of 512 tokens,
           byte-level BPE of 50,265 entries
Result     in the paper, perplexity 3.99, 3.68 and 3.77; MNLI 84.7, 85.2 and 84.6; SST-2 92.7, 92.9
           and 92.8. Not measured here.
Source     arXiv 1907.11692, table 3; betas, epsilon, decay and dropout from table 9. Table 3 has no
           warm-up: 4.8% of the steps is table 9's 24,000 of 500,000. fairseq's README advises lower
           rates, 1e-4, 5e-4 and 7e-4.
"""

from roberta_jax import config as c
from roberta_jax.errors import UserError

# Argument → rows, duration, peak rate.
BATCHES = {
    # 1,000,000 steps x 256 rows x 512 tokens = 131.1B tokens
    "256": (256, "1_000_000 steps", 1e-4),
    # 125,000 steps x 2,048 rows x 512 tokens = 131.1B tokens
    "2k": (2_048, "125_000 steps", 7e-4),
    # 31,000 steps x 8,192 rows x 512 tokens = 130.0B tokens
    "8k": (8_192, "31_000 steps", 1e-3),
}


def get_config(batch: str = "256") -> c.PretrainConfig:
    """The recipe of one row of the table."""
    if batch not in BATCHES:
        raise UserError(
            f"base_batch.py has no batch {batch!r}; after the colon there must be one of "
            f"{', '.join(BATCHES)}."
        )
    batch_size, duration, peak_learning_rate = BATCHES[batch]
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=512),
        encoder=c.EncoderConfig(
            num_layers=12,
            hidden_size=768,
            num_heads=12,
            mlp_size=3_072,
            max_positions=512,
            rematerialization="full",
        ),
        masking=c.MaskingConfig(kind="dynamic", rate=0.15),
        optimizer=c.OptimizerConfig(
            peak_learning_rate=peak_learning_rate,
            beta1=0.9,
            beta2=0.98,
            epsilon=1e-6,
            weight_decay=0.01,
            decay_table="bert",
        ),
        schedule=c.ScheduleConfig(kind="linear", warmup="4.8%"),
        train=c.TrainConfig(
            duration=duration,
            batch_size=batch_size,
            log_every_steps=50,
            evaluate_every_steps=1_000,
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=1_000, keep_last=3, keep_every_steps=25_000),
    )
