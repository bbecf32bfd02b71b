"""Pretraining of RoBERTa encoders from raw text, with JAX and Flax.

    model = roberta_jax.load("runs/small")  # Or a Hugging Face folder.
    model.fill_mask("He opened the <mask>.")
    model = roberta_jax.load_task("runs/stars")  # A model that was fine-tuned.
    model.predict(["The room was cold, the soup was colder."])

Importing this package loads neither jax nor any data library; each command, `load` and `load_task`
load what they need.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from roberta_jax.version import __version__ as __version__

if TYPE_CHECKING:
    from roberta_jax.finetune.finetuned_model import FinetunedModel
    from roberta_jax.inference.model import Model


def load(path: str | Path, *, step: int = -1) -> "Model":
    """Loads a masked language model, to be asked from Python.

    Args:
      path: a workdir, or a Hugging Face or fairseq folder.
      step: which checkpoint of a workdir; -1 for the newest.

    Returns:
      A `Model` with `encode(texts)`, `fill_mask(text, top_k)`, `perplexity(texts)` and
      `logits(ids, attention_mask)`.

    Raises:
      UserError: it is neither, or incomplete or damaged.
    """
    from roberta_jax.inference.model import load as load_model

    return load_model(path, step=step)


def load_task(
    path: str | Path, *, task: str = "", no_answer_threshold: float | None = None
) -> "FinetunedModel":
    """Loads a fine-tuned model, to be asked from Python.

    Args:
      path: a workdir of `roberta-jax finetune`, the folder of a task in it, or a Hugging Face
        folder of a class such as RobertaForSequenceClassification.
      task: of a workdir with several tasks, whose model; of a Hugging Face folder, the published
        task that it is a model of. "" where neither has to be said.
      no_answer_threshold: of questions: the greatest score of no answer with which one is still
        answered; None for the one that was chosen in training, or, where none was, to answer all.

    Returns:
      A `FinetunedModel` with `predict(texts, pairs)`, of questions `answer(questions, passages)`,
      of multiple choice `choose(question, options, passage)`.

    Raises:
      UserError: it is no fine-tuned model, or incomplete or damaged.
    """
    from roberta_jax.finetune.finetuned_model import load_task as load_finetuned

    return load_finetuned(path, task=task, no_answer_threshold=no_answer_threshold)
