r"""RoBERTa base, 125M parameters, as published.

Command    roberta-jax pretrain --config=configs/pretrain/base.py \
             --config.data.path=DATASET --workdir=runs/base
Hardware   a pod slice or several GPUs: 2.5 PFLOP a step, 1.3 ZFLOP in all (step_flops in
           roberta_jax/train/hardware.py). At 40% of its peak, 256 TPU v5e chips need 17 hours.
           Not measured.
Data       160 GB of text in the paper; rows of 512 tokens, byte-level BPE of 50,265 entries
Result     in the paper, MNLI 87.6 and SST-2 94.8 after fine-tuning. Not measured here.
Source     arXiv 1907.11692, section 3 and table 9

500,000 steps x 8,192 rows x 512 tokens = 2.1T tokens. Smaller budgets: base_batch.py has the three
of the paper's table 3, fairseq.py that of fairseq's README.
"""

from roberta_jax import config as c


def get_config() -> c.PretrainConfig:
    """The recipe."""
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
            peak_learning_rate=6e-4,
            beta1=0.9,
            beta2=0.98,
            epsilon=1e-6,
            weight_decay=0.01,
            decay_table="bert",
        ),
        schedule=c.ScheduleConfig(kind="linear", warmup="24_000 steps"),
        train=c.TrainConfig(
            duration="500_000 steps",
            batch_size=8_192,
            log_every_steps=50,
            evaluate_every_steps=2_500,
        ),
        # Divergence can come late: every 25,000th checkpoint stays.
        checkpoint=c.CheckpointConfig(save_every_steps=2_500, keep_last=3, keep_every_steps=25_000),
    )
