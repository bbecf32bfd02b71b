r"""RoBERTa med-small: 6 layers x 512, 45M parameters, for one GPU.

Command    roberta-jax pretrain --config=configs/pretrain/med_small.py \
             --config.data.path=DATASET --workdir=runs/med-small
Hardware   one GPU: 41 TFLOP a step, 0.41 EFLOP in all (step_flops in
           roberta_jax/train/hardware.py), 17 minutes of an H200 at 40% of its peak. Not measured.
Data       1M words of Wikipedia and of books, 3 to 1, for the published model; rows of 512 tokens,
           byte-level BPE of 50,265 entries
Result     published on 1M words, perplexity 134 on the authors' own text. Not measured here.
Source     the MiniBERTas' model card, huggingface.co/nyu-mll/roberta-med-small-1M-2: shape, batch,
           steps, rate, warm-up and dropout. The rest, rows of 512 tokens among it, is RoBERTa's
           (paper, table 9).

10,000 steps x 512 rows x 512 tokens = 2.6B tokens, some 2,000 passes over so few words; other text
wants more of them, not longer training.
"""

from roberta_jax import config as c


def get_config() -> c.PretrainConfig:
    """The recipe."""
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=512),
        encoder=c.EncoderConfig(
            num_layers=6, hidden_size=512, num_heads=8, mlp_size=2_048, max_positions=512
        ),
        masking=c.MaskingConfig(kind="dynamic", rate=0.15),
        optimizer=c.OptimizerConfig(
            peak_learning_rate=5e-4,
            beta1=0.9,
            beta2=0.98,
            epsilon=1e-6,
            weight_decay=0.01,
            decay_table="bert",
        ),
        schedule=c.ScheduleConfig(kind="linear", warmup="6%"),
        train=c.TrainConfig(
            duration="10_000 steps",
            batch_size=512,
            log_every_steps=50,
            evaluate_every_steps=500,
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=500, keep_last=2, keep_best=1),
    )
