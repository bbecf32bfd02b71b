"""`README.md` of an exported fine-tuned model, written from what was stored with it."""

from typing import Any

from roberta_jax.finetune.model_folder import TaskModelFolder
from roberta_jax.interop.model_card import (
    CARD_TAG,
    architecture_rows,
    card_table,
    card_versions,
)
from roberta_jax.tasks.results_table import score_title, split_title

# By kind: the name that model hubs and transformers' pipelines have for it.
_PIPELINES = {
    "classification": "text-classification",
    "regression": "text-classification",
    "span": "question-answering",
    "tokens": "token-classification",
    "choice": "multiple-choice",
}
# By kind: how the pipeline of transformers is asked, or, where there is none, the model.
_ASKED = {
    "classification": "classify(TEXT)  # Of pairs: classify({'text': TEXT, 'text_pair': SECOND})",
    "regression": "predict(TEXT, function_to_apply='none')",
    "tokens": "label(TEXT)",
    "span": "tokenizer(QUESTION, PASSAGE, return_tensors='pt')",
    "choice": "tokenizer(QUESTIONS_WITH_OPTIONS, PASSAGES, return_tensors='pt', padding=True)",
}
_RANDOM_WEIGHTS = "random weights, in the shape of "


def task_card(model: TaskModelFolder, *, name: str, class_name: str) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
      model: what is exported.
      name: what it is called.
      class_name: of transformers.
    """
    sections = [
        _front_matter(model),
        f"# {name}",
        _introduction(model),
        _usage(model, class_name),
        "## Architecture\n\n" + card_table(architecture_rows(model.encoder, model.family)),
        "## Evaluation\n\n" + _evaluation(model),
        "## Training\n\n" + _training(model),
        "## Limits\n\n" + _limits(model),
        "## Versions\n\n" + card_versions(),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(model: TaskModelFolder) -> str:
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            f"pipeline_tag: {_PIPELINES[model.task.kind]}",
            "tags:",
            f"- {model.family}",
            CARD_TAG,
            "---",
        ]
    )


def _introduction(model: TaskModelFolder) -> str:
    task = model.task
    what = {
        "classification": f"Gives a text one of the classes {', '.join(task.labels)}.",
        "regression": "Gives a text a number, in the unit of the labels.",
        "span": "Finds the answer to a question in a passage.",
        "tokens": f"Gives every word one of the labels {', '.join(task.labels)}.",
        "choice": "Chooses one of several options to a question about a passage.",
    }[task.kind]
    return f"Fine-tuned for {task.title} with roberta_jax. {what}"


def _usage(model: TaskModelFolder, class_name: str) -> str:
    kind, asked = model.task.kind, _ASKED[model.task.kind]
    if kind in ("span", "choice"):
        rows = "rows" if kind == "span" else "{name: ids[None] for name, ids in rows.items()}"
        lines = [
            f"from transformers import AutoTokenizer, {class_name}",
            "",
            'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")',
            f'model = {class_name}.from_pretrained("THIS_FOLDER")',
            f"rows = {asked}",
            f"scores = model(**{rows})",
        ]
    else:
        verb = asked.partition("(")[0]
        lines = [
            "from transformers import pipeline",
            "",
            f'{verb} = pipeline("{_PIPELINES[kind]}", model="THIS_FOLDER")',
            asked,
        ]
    return "\n".join(["```python", *lines, "```"])


def _evaluation(model: TaskModelFolder) -> str:
    if not model.scores:
        return "Not known: no scores were stored with the model."
    rows = {
        f"{split_title(split)}, {score_title(name)}": f"{100 * value:.2f}"
        for split, scores in model.scores.items()
        for name, value in scores.items()
    }
    text = (
        "In percent, on rows that were not trained on, by which this model was chosen among seeds "
        "and epochs:\n\n" + card_table(rows)
    )
    if model.task.unanswerable:
        text += (
            "\n\nThose figures use the classifier of whether there is an answer, which this folder "
            "has no place for; the answers are the same, the decision to give none is not."
        )
    return text


def _training(model: TaskModelFolder) -> str:
    known: dict[str, Any] = model.training
    names = {
        "init_from": "began with",
        "num_train": "training rows",
        "learning_rate": "peak learning rate",
        "batch_size": "batch",
        "epochs": "epochs planned",
        "best_epoch": "epochs of these weights",
        "warmup": "warm-up",
        "weight_decay": "weight decay",
        "seed": "seed",
    }
    rows = {names[key]: _shown(key, value) for key, value in known.items() if key in names}
    rows["longest row, in tokens"] = f"{model.limits.max_length:,}"
    return card_table(rows)


def _shown(key: str, value: Any) -> str:
    if key == "init_from":
        return _without_folders(str(value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _without_folders(description: str) -> str:
    """What a run began with, without the path on the machine."""
    prefix = _RANDOM_WEIGHTS if description.startswith(_RANDOM_WEIGHTS) else ""
    return prefix + description.removeprefix(prefix).rpartition("/")[2]


def _limits(model: TaskModelFolder) -> str:
    text = (
        "It was tested on the rows above only, and has the errors and prejudices of the texts and "
        "labels that it was trained on."
    )
    if model.task.kind == "regression":
        text += " A number may lie outside the range of the labels."
    return text
