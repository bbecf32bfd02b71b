r"""RoBERTa base by the recipe of fairseq's README, for one machine of several GPUs.

Command    roberta-jax pretrain --config=configs/pretrain/fairseq.py \
             --config.data.path=DATASET --workdir=runs/fairseq
           256, 2k (the default) or 8k may follow a colon: the rates that the README advises for
           these batches, over equal passes.
Hardware   0.63 PFLOP a step of 2,048 rows, 79 EFLOP in all (step_flops in
           roberta_jax/train/hardware.py): 55 hours of one H200 at 40% of its peak. Not measured.
Data       any text, WikiText-103 in the README; rows of 512 tokens, byte-level BPE of 50,265
           entries
Result     none published. Not measured.
Source     fairseq, examples/roberta/README.pretraining.md; steps of 256 and 8k are ours

fairseq counts 2,048 rows as 16 of a GPU x
8 GPUs x 16 batches before an update. Unlike the paper and BERT, fairseq lets every parameter decay,
biases and LayerNorm as well, and predicts <s> and </s> too, which makes the loss lower: compare it
with that of fairseq only.
"""

from roberta_jax import config as c
from roberta_jax.errors import UserError

# Argument → rows, duration, peak rate.
BATCHES = {
    # 1,000,000 steps x 256 rows x 512 tokens = 131.1B tokens
    "256": (256, "1_000_000 steps", 1e-4),
    # 125,000 steps x 2,048 rows x 512 tokens = 131.1B tokens
    "2k": (2_048, "125_000 steps", 5e-4),
    # 31,000 steps x 8,192 rows x 512 tokens = 130.0B tokens
    "8k": (8_192, "31_000 steps", 7e-4),
}


def get_config(batch: str = "2k") -> c.PretrainConfig:
    """The recipe for one size of the batch."""
    if batch not in BATCHES:
        raise UserError(
            f"fairseq.py has no batch {batch!r}; after the colon there must be one of "
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
        masking=c.MaskingConfig(kind="dynamic", rate=0.15, mask_special_tokens=True),
        optimizer=c.OptimizerConfig(
            peak_learning_rate=peak_learning_rate,
            beta1=0.9,
            beta2=0.98,
            epsilon=1e-6,
            weight_decay=0.01,
            decay_table="fairseq",
        ),
        schedule=c.ScheduleConfig(kind="linear", warmup="8%"),
        train=c.TrainConfig(
            duration=duration,
            batch_size=batch_size,
            log_every_steps=50,
            evaluate_every_steps=1_000,
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=1_000, keep_last=3, keep_every_steps=25_000),
    )
