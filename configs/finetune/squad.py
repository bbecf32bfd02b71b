r"""SQuAD 1.1 and 2.0 with the paper's settings.

Command    roberta-jax finetune --config=configs/finetune/squad.py:squad2 --init_from=MODEL \
             --data=SQUAD_FOLDER --workdir=runs/squad
Hardware   one GPU; an hour or two for a model of the size of base
Result     RoBERTa large, published: 1.1 88.9 EM / 94.6 F1, 2.0 86.5 / 89.4; not measured here
Source     arXiv 1907.11692, table 10: rate 1.5e-5, batch 48, 2 epochs, decay 0.01, warm-up 6%; the
           windows (384 tokens, a new one every 128) are BERT's. For 2.0, a classifier of
           answerability is trained jointly (section 5.2).
"""

from roberta_jax import config as c
from roberta_jax.errors import UserError


def get_config(task: str = "squad2") -> c.FinetuneConfig:
    """The recipe of squad1 or squad2."""
    if task not in ("squad1", "squad2"):
        raise UserError(f"{task!r} is no version of SQuAD. There are: squad1, squad2.")
    return c.FinetuneConfig(
        task=task,
        data=c.TaskDataConfig(max_length=384),
        optimizer=c.OptimizerConfig(
            peak_learning_rate=1.5e-5, weight_decay=0.01, decay_table="fairseq"
        ),
        schedule=c.ScheduleConfig(warmup="6%"),
        fit=c.FitConfig(epochs=2.0, batch_size=48),
    )
