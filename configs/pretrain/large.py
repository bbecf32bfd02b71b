r"""RoBERTa large, 355M parameters, as published.

Command    roberta-jax pretrain --config=configs/pretrain/large.py \
             --config.data.path=DATASET --workdir=runs/large
Hardware   a pod: 8.4 PFLOP a step, 4.2 ZFLOP in all (step_flops in roberta_jax/train/hardware.py).
           At 40% of its peak, 256 TPU v5e chips need 2.4 days. Not measured.
Data       160 GB of text in the paper; rows of 512 tokens, byte-level BPE of 50,265 entries
Result     in the paper, MNLI 90.2, SST-2 96.4, SQuAD 1.1 F1 94.6, RACE 83.2 after fine-tuning.
           Not measured here.
Source     arXiv 1907.11692, section 5 and table 9

500,000 steps x 8,192 rows x 512 tokens = 2.1T tokens. On 256 chips of 16 GB, 8,192 rows at once
miss the memory by 3.2 GiB; two microbatches of 4,096 rows fit, with all activations computed again.
How many microbatches there are is chosen when the run begins.
"""

from roberta_jax import config as c


def get_config() -> c.PretrainConfig:
    """The recipe."""
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=512),
        encoder=c.EncoderConfig(
            num_layers=24,
            hidden_size=1_024,
            num_heads=16,
            mlp_size=4_096,
            max_positions=512,
            rematerialization="full",
        ),
        masking=c.MaskingConfig(kind="dynamic", rate=0.15),
        optimizer=c.OptimizerConfig(
            peak_learning_rate=4e-4,
            beta1=0.9,
            beta2=0.98,
            epsilon=1e-6,
            weight_decay=0.01,
            decay_table="bert",
        ),
        schedule=c.ScheduleConfig(kind="linear", warmup="30_000 steps"),
        train=c.TrainConfig(
            duration="500_000 steps",
            batch_size=8_192,
            log_every_steps=50,
            evaluate_every_steps=2_500,
        ),
        # Divergence can come late: every 25,000th checkpoint stays.
        checkpoint=c.CheckpointConfig(save_every_steps=2_500, keep_last=3, keep_every_steps=25_000),
    )
