r"""GLUE with fairseq's settings of every task but WNLI (examples/roberta, README.glue.md).

Command    roberta-jax finetune --config=configs/finetune/glue.py:sst2 --init_from=MODEL \
             --data=GLUE_FOLDER --workdir=runs/glue --seeds=5
           With `:all`, every task that is in the folder. The paper's sweep is
           --learning_rates=1e-5,2e-5,3e-5 --batch_sizes=16,32
Hardware   one GPU for a model of the size of base; minutes (RTE) to hours (MNLI, QQP)
Result     RoBERTa base, published: MNLI 87.6, QNLI 92.8, QQP 91.9, RTE 78.7, SST-2 94.8, MRPC 90.2,
           CoLA 63.6, STS-B 91.2; not measured here
Source     arXiv 1907.11692, table 10: 10 epochs, warm-up 6%, decay 0.1, linear; rates and batches
           of each task are fairseq's, as are a decay of every parameter and no dropout in the head,
           and a warm-up of 25% for QQP. WNLI, which fairseq has not, is trained as RTE.
           RTE, STS-B and MRPC begin with the model of MNLI. fairseq's schedule of RTE is one of 13
           epochs that stops after 10; here it ends with the 10.
"""

from roberta_jax import config as c
from roberta_jax.errors import UserError

# Task → (peak rate, batch). fairseq's numbers of updates are 10 epochs of these batches (of QQP,
# 10, with a warm-up of a quarter of them).
SETTINGS = {
    "cola": (1e-5, 16),
    "sst2": (1e-5, 32),
    "mrpc": (1e-5, 16),
    "stsb": (2e-5, 16),
    "qqp": (1e-5, 32),
    "mnli": (1e-5, 32),
    "qnli": (1e-5, 32),
    "rte": (2e-5, 16),
    "wnli": (2e-5, 16),
}


def get_config(task: str = "all") -> c.FinetuneConfig:
    """The recipe of a task; `all` stands for every task, each with its own."""
    if task != "all" and task not in SETTINGS:
        raise UserError(f"{task!r} is no task of GLUE. There are: all, {', '.join(SETTINGS)}.")
    rate, batch_size = SETTINGS.get(task, (1e-5, 32))
    return c.FinetuneConfig(
        task=task,
        optimizer=c.OptimizerConfig(
            peak_learning_rate=rate, weight_decay=0.1, decay_table="fairseq"
        ),
        model=c.TaskModelConfig(head_dropout_rate=0.0),
        schedule=c.ScheduleConfig(warmup="25%" if task == "qqp" else "6%"),
        fit=c.FitConfig(epochs=10.0, batch_size=batch_size),
    )
