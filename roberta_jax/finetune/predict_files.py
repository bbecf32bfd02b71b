"""Predictions of a fine-tuned model for a table, or for the files of its published task."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.errors import UserError
from roberta_jax.finetune.finetuned_model import FinetunedModel, load_task, question_examples
from roberta_jax.finetune.task_data import check_file
from roberta_jax.tasks.catalogue import TASKS, find_task
from roberta_jax.tasks.examples import Example, TextExample
from roberta_jax.tasks.load import load_splits
from roberta_jax.tasks.submission import check_table_name, write_predictions, write_table
from roberta_jax.tasks.task import Task
from roberta_jax.tasks.user_table import Columns, read_examples
from roberta_jax.wording import count_of

# Where the model does not remember columns: as in SQuAD for questions.
_TEXT, _QUESTION, _PASSAGE = "text", "question", "context"


def predict_table(
    model: str | pathlib.Path,
    table: str,
    output: str | pathlib.Path,
    *,
    text: str = "",
    text_pair: str = "",
    task: str = "",
    no_answer_threshold: float | None = None,
    strict: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Writes what a model says of the rows of a table.

    Args:
      model: as for `load_task`.
      table: a file that `data.tables.read_table` reads; its column "id", where it has one, names
        the predictions, as `read_examples` says.
      output: the file to write, .jsonl or .tsv; its columns are in `tasks.submission.write_table`.
      text: column of the text, or of the question; "" for the one that the model was fine-tuned
        with, where it is known, otherwise "text" ("question").
      text_pair: column of the second text, or of the passage; likewise, otherwise none ("context").
      task: as for `load_task`.
      no_answer_threshold: as for `load_task`.
      strict: refuse texts that are too long, instead of cutting them with a TruncationWarning.
      say: takes the summary.

    Raises:
      UserError: the output is there or has an unknown suffix, the model or the table cannot be
        read, or columns are missing. Nothing was written.
    """
    target = _new_output(output)
    check_table_name(target)
    check_file("input", table)
    loaded = load_task(model, task=task, no_answer_threshold=no_answer_threshold)
    examples = _table_examples(loaded, table, text, text_pair)
    found = loaded.predictions(examples, strict=strict)
    assert found is not None  # `read_examples` refuses an empty table.
    write_table(
        target, loaded.task, examples, found, no_answer_threshold=loaded.no_answer_threshold
    )
    say(f"{count_of(len(examples), 'prediction')} of {loaded.task.title} written to {target}")


def predict_data(
    model: str | pathlib.Path,
    data: str,
    output: str | pathlib.Path,
    *,
    split: str = "",
    task: str = "",
    no_answer_threshold: float | None = None,
    strict: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Writes what a model says of splits of its published task, in the format of the task.

    Args:
      model: as for `load_task`.
      data: the files of the task, as `tasks.load.load_splits` takes them.
      output: the folder to write.
      split: its name; "test" and "dev" are all splits of that kind, as MNLI has two. "" for test
        where it is there, otherwise dev.
      task: as for `load_task`.
      no_answer_threshold: as for `load_task`.
      strict: refuse texts that are too long, instead of cutting them with a TruncationWarning.
      say: takes the summary, line by line.

    Raises:
      UserError: the output is there, the model or the data cannot be read, or there is no such
        split. Nothing was written.
    """
    target = _new_output(output)
    loaded = load_task(model, task=task, no_answer_threshold=no_answer_threshold)
    if loaded.task.name not in TASKS:
        raise UserError(
            f"The model in {model}, for {loaded.task.title}, is none of a published task, and "
            f"--data has the files of one. Give --input=TABLE; or, of a Hugging Face folder, "
            "--task=NAME to say which published task it is a model of."
        )
    published = find_task(loaded.task.name)
    # Another split may be large, or damaged, and has no say in the predictions.
    splits = load_splits(
        published,
        data,
        for_training=False,
        choose=lambda there: _splits(published, there, split, data),
    )
    for note in splits.notes:
        say(f"note: {note}")
    written = []
    predictions = {
        name: loaded.predictions(examples, strict=strict)
        for name, examples in splits.splits.items()
    }
    with new_folder(target) as partial:
        for name, found in predictions.items():
            assert found is not None  # The loaders refuse an empty split.
            paths = write_predictions(
                partial,
                loaded.task,
                name,
                splits.splits[name],
                found,
                no_answer_threshold=loaded.no_answer_threshold,
            )
            written += [(name, path.name) for path in paths]
    for name, file in written:
        count = len(splits.splits[name])
        say(f"{published.title} {name}, {count_of(count, 'prediction')} written to {target / file}")


def _new_output(output: str | pathlib.Path) -> pathlib.Path:
    target = local_path(output)
    if target.exists():
        raise UserError(f"The output {target} exists. Choose another --output, or remove it.")
    return target


def _table_examples(
    model: FinetunedModel, table: str, text: str, text_pair: str
) -> Sequence[Example]:
    task, columns = model.task, model.columns
    if task.kind == "choice":
        raise UserError(
            f"{task.title} is multiple choice, which a table has no columns for. Give the files of "
            "RACE by --data, or ask one question."
        )
    if task.kind == "span":
        names = Columns(text=text or _QUESTION, second_text=text_pair or _PASSAGE, label="")
        found = read_examples(task, names, table, has_labels=False)
        rows = [row for row in found if isinstance(row, TextExample)]
        questions = question_examples(
            [row.texts[0] for row in rows], [row.texts[1] for row in rows]
        )
        return [
            dataclasses.replace(question, id=row.id)
            for question, row in zip(questions, rows, strict=True)
        ]
    first = text or columns.get("text", _TEXT)
    second = text_pair or columns.get("text_pair", "")
    if model.num_texts == 2 and not second:
        raise UserError(
            f"{task.title} is about pairs of texts; name the column of the second text by "
            "--text_pair."
        )
    if second and (model.num_texts == 1 or task.kind == "tokens"):
        raise UserError(f"{task.title} is about single texts; leave --text_pair={second} out.")
    names = Columns(text=first, second_text=second, label="")
    return read_examples(task, names, table, has_labels=False)


def _splits(task: Task, there: list[str], wanted: str, data: str) -> list[str]:
    """Names of those that are there and meant."""
    if not wanted:
        kinds: tuple[tuple[str, ...], ...] = (task.test, task.dev)
    else:
        groups = {"test": task.test, "dev": task.dev}
        kinds = (groups.get(wanted, (wanted,)),)
    for names in kinds:
        found = [name for name in names if name in there]
        if found:
            return found
    raise UserError(
        f"{task.title} in {data} has no split {wanted or 'test and no dev'}; it has: "
        f"{', '.join(there)}."
    )
