r"""Asks a fine-tuned model: about texts, a table, or the files of its published task.

roberta-jax predict --model=runs/stars 'The room was cold, the soup was colder.'
roberta-jax predict --model=runs/glue/rte 'A man sleeps.' --text_pair='Nobody is awake.'
roberta-jax predict --model=runs/squad --passage_file=article.txt 'Who built the bridge?'
roberta-jax predict --model=runs/race --passage_file=article.txt 'The bridge is _ .' \
  --option=old --option=new
roberta-jax predict --model=runs/stars --input=new.csv --output=stars.jsonl
roberta-jax predict --model=runs/glue/rte --data=glue/RTE --split=test --output=submission

The model is a --workdir of `roberta-jax finetune`, the folder of a task in it, or a Hugging Face
folder of one of transformers' classes for tasks (…ForSequenceClassification, …ForQuestionAnswering,
…ForMultipleChoice, …ForTokenClassification of RoBERTa, XLM-R and BERT).

Of texts the answers are printed, a line each. Of a table (TSV, CSV, JSON lines, Parquet) they are
written as JSON lines or TSV; of GLUE and SQuAD in the formats of their servers, of RACE as JSON.
"""

import pathlib
import sys
import warnings
from typing import Any

from absl import flags as absl_flags

from roberta_jax.errors import TruncationWarning, UserError

SUMMARY = "what a fine-tuned model says of texts, a table or a test set"
_SHOWN_CHARACTERS = 60  # Of a text behind its answer.


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    for name, explanation in (
        ("model", "A fine-tuning workdir, the folder of a task in it, or a Hugging Face folder."),
        ("task", "Whose model of a workdir; or the published task of a Hugging Face folder."),
        ("text", "With --input: column of the text, or of the question (default: as in training)."),
        ("passage", "What the questions are about."),
        ("passage_file", "The same, in a text file (UTF-8)."),
        ("input", "A table to predict: TSV, CSV, JSON lines or Parquet."),
        ("data", "Files of the model's published task to predict: a folder, or tfds:NAME."),
        ("split", "With --data: which split (default: test, or dev where there is no test)."),
        ("output", "File (.jsonl, .tsv) for --input, folder for --data; must not be there."),
    ):
        absl_flags.DEFINE_string(name, "", explanation, flag_values=flags)
    for name, explanation in (
        (
            "text_pair",
            "Second text, once or for each text; with --input: its or the passage's column.",
        ),
        ("option", "Of multiple choice: an option; give two or more."),
    ):
        absl_flags.DEFINE_multi_string(name, [], explanation, flag_values=flags)
    absl_flags.DEFINE_integer(
        "top_k",
        None,
        "Of texts: how many classes or options are printed of each (default: the best).",
        lower_bound=1,
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "no_answer_threshold",
        None,
        "Of questions: above this score of no answer there is none (default: as chosen in "
        "training; where it was not, every question is answered).",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "strict", False, "Refuse a text that is too long, instead of cutting it.", flag_values=flags
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if not flags.model:
        raise UserError(
            "--model is missing: the --workdir of `roberta-jax finetune`, or a Hugging Face folder."
        )
    sources = {"--input": flags.input, "--data": flags.data, "texts": arguments}
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        raise UserError(
            "Give texts in quotes, or --input=TABLE, or --data=FOLDER"
            + (f", one of them; {' and '.join(given)} are given." if given else ": there is none.")
        )
    _check_flags(flags, given[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        # All of them first: half an answer would scroll away above an error.
        lines = _files(flags) if given[0] != "texts" else _answers(flags, arguments)
    for warning in caught:
        print(f"roberta-jax: {warning.message}", file=sys.stderr)
    for line in lines:
        print(line)
    return 0


# Flags that belong to one of the three uses only.
_ONLY_FOR = {
    "text": ("--input",),
    "text_pair": ("--input", "texts"),
    "split": ("--data",),
    "output": ("--input", "--data"),
    "passage": ("texts",),
    "passage_file": ("texts",),
    "option": ("texts",),
    "top_k": ("texts",),
}
_OUTPUTS = {"--input": "file (.jsonl or .tsv)", "--data": "folder"}


def _check_flags(flags: Any, use: str) -> None:
    for name, uses in _ONLY_FOR.items():
        if getattr(flags, name) and use not in uses:
            raise UserError(f"--{name} goes with {' or '.join(uses)}, and {use} is given.")
    if not flags.output and use != "texts":
        raise UserError(f"--output is missing: the {_OUTPUTS[use]} that is written.")
    if flags.passage and flags.passage_file:
        raise UserError("Give --passage or --passage_file, not both.")
    if use == "--input" and len(flags.text_pair) > 1:
        raise UserError(f"With --input, --text_pair is one column; it is {flags.text_pair}.")


def _files(flags: Any) -> list[str]:
    from roberta_jax.finetune.predict_files import predict_data, predict_table

    lines: list[str] = []
    shared = {
        "task": flags.task,
        "no_answer_threshold": flags.no_answer_threshold,
        "strict": flags.strict,
        "say": lines.append,
    }
    if flags.data:
        predict_data(flags.model, flags.data, flags.output, split=flags.split, **shared)
    else:
        (pair,) = flags.text_pair or [""]
        predict_table(
            flags.model, flags.input, flags.output, text=flags.text, text_pair=pair, **shared
        )
    return lines


def _answers(flags: Any, texts: list[str]) -> list[str]:
    """A line for each text."""
    import roberta_jax

    if empty := [number for number, text in enumerate(texts, start=1) if not text.strip()]:
        raise UserError(f"Text {empty[0]} is empty.")
    passage = _passage(flags)
    model = roberta_jax.load_task(
        flags.model, task=flags.task, no_answer_threshold=flags.no_answer_threshold
    )
    kind = model.task.kind
    if kind in ("span", "choice"):
        if not passage.strip():
            raise UserError(
                f"{model.task.title} asks about a passage; give --passage='...' or "
                "--passage_file=FILE."
            )
        _refuse(flags, model.task.title, "text_pair", *(["option"] if kind == "span" else []))
    else:
        _refuse(flags, model.task.title, "passage", "passage_file", "option")
    if kind not in ("choice", "classification"):
        _refuse(flags, model.task.title, "top_k")
    strict, top_k = flags.strict, flags.top_k or 1
    if kind == "span":
        found: Any = model.answer(texts, [passage] * len(texts), strict=strict)
        results = [answer.text or "(no answer)" for answer in found]
    elif kind == "choice":
        found = [model.choose(text, flags.option, passage, strict=strict) for text in texts]
        results = [_labels(each, top_k) for each in found]
    else:
        pairs = flags.text_pair * len(texts) if len(flags.text_pair) == 1 else flags.text_pair
        found = model.predict(texts, pairs or None, strict=strict)
        if kind == "tokens":
            return [" ".join(f"{word}/{label}" for word, label in words) for words in found]
        if kind == "regression":
            results = [f"{value:.4g}" for value in found]
        else:
            results = [_labels(each, top_k) for each in found]
    return [f"{result}  |  {_shown(text)}" for result, text in zip(results, texts, strict=True)]


def _passage(flags: Any) -> str:
    if not flags.passage_file:
        return flags.passage
    try:
        return pathlib.Path(flags.passage_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--passage_file={flags.passage_file} cannot be read ({error}). Give a text file in "
            "UTF-8."
        ) from error


def _refuse(flags: Any, title: str, *names: str) -> None:
    for name in names:
        if getattr(flags, name):
            raise UserError(f"--{name} is of no use to a model for {title}; leave it out.")


def _labels(found: Any, top_k: int) -> str:
    best = list(found.probabilities.items())[:top_k]
    return ", ".join(f"{label} {probability:.1%}" for label, probability in best)


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1]}…"
