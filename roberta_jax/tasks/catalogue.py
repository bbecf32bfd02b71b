"""The published tasks: GLUE (arXiv 1804.07461), SQuAD 1.1 and 2.0, RACE.

The figures are those of RoBERTa on the development sets: of large from the paper (tables 5, 6, 7;
arXiv 1907.11692), of base from fairseq's page of the model.
"""

from roberta_jax.errors import UserError
from roberta_jax.tasks.task import Task

# A test split of MNLI: GLUE's diagnostic set, which its server wants in every submission.
DIAGNOSTIC = "test_ax"
_ENTAILMENT = ("not_entailment", "entailment")


def _published(base: float, large: float) -> tuple[tuple[str, float], ...]:
    return (("base", base), ("large", large))


GLUE = (
    Task(
        name="cola",
        title="CoLA",
        kind="classification",
        labels=("0", "1"),
        scores=("matthews", "accuracy"),
        published=_published(63.6, 68.0),
    ),
    Task(
        name="sst2",
        title="SST-2",
        kind="classification",
        labels=("0", "1"),
        scores=("accuracy",),
        published=_published(94.8, 96.4),
    ),
    Task(
        name="mrpc",
        title="MRPC",
        kind="classification",
        labels=("0", "1"),
        scores=("accuracy", "f1"),
        starts_from="mnli",
        published=_published(90.2, 90.9),
    ),
    Task(
        name="stsb",
        title="STS-B",
        kind="regression",
        scores=("pearson", "spearman"),
        scale=5.0,
        starts_from="mnli",
        published=_published(91.2, 92.4),
    ),
    Task(
        name="qqp",
        title="QQP",
        kind="classification",
        labels=("0", "1"),
        scores=("accuracy", "f1"),
        published=_published(91.9, 92.2),
    ),
    Task(
        name="mnli",
        title="MNLI",
        kind="classification",
        labels=("contradiction", "neutral", "entailment"),
        scores=("accuracy",),
        dev=("dev_matched", "dev_mismatched"),
        test=("test_matched", "test_mismatched", DIAGNOSTIC),
        published=_published(87.6, 90.2),
    ),
    Task(
        name="qnli",
        title="QNLI",
        kind="classification",
        labels=_ENTAILMENT,
        scores=("accuracy",),
        published=_published(92.8, 94.7),
    ),
    Task(
        name="rte",
        title="RTE",
        kind="classification",
        labels=_ENTAILMENT,
        scores=("accuracy",),
        starts_from="mnli",
        published=_published(78.7, 86.6),
    ),
    Task(
        name="wnli",
        title="WNLI",
        kind="classification",
        labels=("0", "1"),
        scores=("accuracy",),
        # Reached on SuperGLUE's version of the data, with a margin ranking loss: `remarks` says so.
        published=(("large", 91.3),),
    ),
)
SQUAD = (
    Task(
        name="squad1",
        title="SQuAD 1.1",
        kind="span",
        scores=("f1", "exact_match"),
        published=(("large", 94.6),),
    ),
    Task(
        name="squad2",
        title="SQuAD 2.0",
        kind="span",
        scores=("f1", "exact_match"),
        unanswerable=True,
        published=(("large", 89.4),),
    ),
)
RACE = (
    Task(
        name="race",
        title="RACE",
        kind="choice",
        scores=("accuracy", "middle_accuracy", "high_accuracy"),
        published=(("large", 83.2),),  # On the test set.
    ),
)
TASKS = {task.name: task for task in (*GLUE, *SQUAD, *RACE)}


def find_task(name: str) -> Task:
    """The published task of this name; UserError lists them."""
    if name not in TASKS:
        raise UserError(f"{name!r} is no published task. There are: {', '.join(TASKS)}.")
    return TASKS[name]
