"""Fine-tuned models of every kind, with weights at random instead of trained ones."""

import dataclasses
import functools

import jax
import numpy as np

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.task_model import abstract_task_params
from roberta_jax.finetune.model_folder import RowLimits, TaskModelFolder, write_task_model
from roberta_jax.finetune.objective import head_of
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.task import Task
from tests.encoder.tiny import random_like
from tests.interop import foreign

MAX_LENGTH = 48
# Kinds, and what there is besides of some of them.
TASKS = {
    "classification": Task(
        name="table", title="moods", kind="classification", labels=("bad", "good", "odd")
    ),
    "regression": Task(name="table", title="stars", kind="regression", scale=1.75, shift=3.25),
    "tokens": Task(name="table", title="names", kind="tokens", labels=("O", "B-PER", "I-PER")),
    "span": find_task("squad1"),
    "unanswerable": find_task("squad2"),
    "choice": find_task("race"),
    "pairs": find_task("rte"),
}
TEXTS = ["The old river carried nobody.", "Slowly came back to me, while rain fell!", "the"]
PASSAGE = "The old river carried the small house over the stone bridge. " * 3


@functools.cache
def make_model(name="classification", seed=0):
    """A model of `TASKS[name]`; tests must not change it."""
    task, tokenizer = TASKS[name], foreign.byte_bpe()
    encoder = EncoderConfig(
        vocab_size=tokenizer.vocab_size,
        num_layers=2,
        hidden_size=16,
        num_heads=2,
        mlp_size=24,
        max_positions=MAX_LENGTH + 8,
        compute_dtype="float32",
    )
    return TaskModelFolder(
        task=task,
        encoder=encoder,
        params=random_like(abstract_task_params(encoder, head_of(task)), seed),
        tokenizer=tokenizer,
        limits=RowLimits(
            max_length=MAX_LENGTH, window_stride=8, max_question_tokens=20, max_option_tokens=20
        ),
        family="roberta",
        no_answer_threshold=0.25 if task.unanswerable else None,
        scores={split: {task.scores[0]: 0.8125} for split in task.dev},
        columns={"text": "review", "label": "mood"} if name == "classification" else {},
        training={
            "init_from": "some/where/runs/small, step 1,000",
            "num_train": 4321,
            "learning_rate": 2e-5,
            "batch_size": 16,
            "epochs": 3.0,
            "best_epoch": 2.0,
            "head_dropout_rate": 0.2,
            "seed": 3,
        },
    )


def write_model(folder, name="classification", **changes):
    """The folder of `make_model(name)` with other values of its fields."""
    write_task_model(folder, dataclasses.replace(make_model(name), **changes))
    return folder


def same_params(left, right):
    return jax.tree.structure(left) == jax.tree.structure(right) and all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )
