r"""RACE with the paper's settings.

Command    roberta-jax finetune --config=configs/finetune/race.py --init_from=MODEL \
             --data=RACE_FOLDER --workdir=runs/race
Hardware   one GPU; hours for a model of the size of base
Result     RoBERTa large, published (test set): 83.2, middle 86.5, high 81.3; not measured here
Source     arXiv 1907.11692, table 10 and section 5.3: rate 1e-5, batch 16, 4 epochs, decay 0.1,
           warm-up 6%; question and option at most 128 tokens, the row at most 512
"""

from roberta_jax import config as c


def get_config() -> c.FinetuneConfig:
    """The recipe."""
    return c.FinetuneConfig(
        task="race",
        optimizer=c.OptimizerConfig(
            peak_learning_rate=1e-5, weight_decay=0.1, decay_table="fairseq"
        ),
        model=c.TaskModelConfig(head_dropout_rate=0.0),
        schedule=c.ScheduleConfig(warmup="6%"),
        fit=c.FitConfig(epochs=4.0, batch_size=16),
    )
