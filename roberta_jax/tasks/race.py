"""RACE: exams of middle and of high schools, as its own folders have them.

A file is one article with its questions:
`{"article", "questions": […], "options": [[…], …], "answers": ["A", …], "id"}`.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from roberta_jax.data.inputs import path_of
from roberta_jax.data.json_file import read_json
from roberta_jax.data.tfds_source import is_tfds
from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import TRAIN, ChoiceExample, Choose, Splits
from roberta_jax.tasks.task import Task
from roberta_jax.wording import count_of

GROUPS = ("middle", "high")
_BLANK = "_"  # Where the option belongs in a question that is a sentence with a gap.


def load_race(
    task: Task, data: str, *, for_training: bool = True, choose: Choose | None = None
) -> Splits:
    """The splits of RACE; of test too, the answers are published.

    Where a test split lacks some of its answers, which the notes tell, it has none.

    Args:
      task: `catalogue.RACE`'s.
      data: the folder with train/middle/*.txt, train/high/*.txt, dev and test likewise; of the two
        groups one may be missing.
      for_training: train and dev must be there; otherwise any split will do.
      choose: which splits are read; None for all that are there.

    Raises:
      UserError: a split is missing, or a file is not as RACE's.
    """
    if is_tfds(data):
        raise UserError(
            f"{task.title} is read from its own folders only: TFDS needs TensorFlow for lists of "
            "lists, as the options are. Give the folder with train/middle/*.txt and so on."
        )
    names = [TRAIN, *task.dev, *task.test]
    there = [name for name in names if any(_paths(data, name))]
    needed = (TRAIN, *task.dev) if for_training else ()
    missing = [name for name in needed if name not in there]
    if missing or not there:
        raise UserError(
            f"{data} has no {' and no '.join(missing or names)} of {task.title}. Give the folder "
            "with train/middle/*.txt, train/high/*.txt, and dev and test likewise."
        )
    splits: dict[str, list[ChoiceExample]] = {}
    notes = []
    for split in choose(there) if choose else there:
        examples = [
            example
            for place, group, content in _files(data, split)
            for example in _questions(place, group, content, split in task.test)
        ]
        num_missing = sum(example.label is None for example in examples)
        if 0 < num_missing < len(examples):
            notes.append(
                f"{split}: {num_missing:,} of {count_of(len(examples), 'question')} "
                f"{'has' if num_missing == 1 else 'have'} no answer, so those of "
                "the others are not used either."
            )
            examples = [dataclasses.replace(example, label=None) for example in examples]
        if not examples:
            raise UserError(f"The files of {split} in {data} have no questions.")
        splits[split] = examples
    return Splits(splits, tuple(notes))


_Article = tuple[str, str, dict[str, Any]]  # Place, group, content.


def _files(data: str, split: str) -> Iterator[_Article]:
    for group, path in _paths(data, split):
        content = read_json(str(path))
        if not isinstance(content, dict):
            raise _wrong(str(path), f"it is a JSON {type(content).__name__}")
        yield str(path), group, {"id": path.name, **content}


def _paths(data: str, split: str) -> Iterator[tuple[str, Any]]:
    """Group and file of each article."""
    for group in GROUPS:
        inside = path_of(data) / split / group
        if inside.is_dir():
            # 2.txt comes before 10.txt.
            found = sorted(inside.glob("*.txt"), key=lambda path: (len(path.name), path.name))
            yield from ((group, path) for path in found)


def _questions(
    place: str, group: str, content: dict[str, Any], is_test: bool
) -> Iterator[ChoiceExample]:
    missing = [name for name in ("article", "questions", "options") if name not in content]
    if missing:
        raise _wrong(place, f"it has no {' and no '.join(missing)}")
    questions, options = content["questions"], content["options"]
    if not (
        isinstance(content["article"], str)
        and _are_texts(questions)
        and isinstance(options, list)
        and all(map(_are_texts, options))
    ):
        raise _wrong(place, "article, questions and options must be texts and lists of texts")
    answers = content.get("answers") or []
    if not answers and is_test:
        answers = [None] * len(questions)
    if not len(questions) == len(options) == len(answers):
        raise _wrong(
            place,
            f"it has {count_of(len(questions), 'question')}, "
            f"{count_of(len(options), 'group of options', 'groups of options')} and "
            f"{count_of(len(answers), 'answer')}",
        )
    numbered = enumerate(zip(questions, options, answers, strict=True))
    for number, (question, choices, answer) in numbered:
        letters = [chr(ord("A") + choice) for choice in range(len(choices))]
        if answer is not None and answer not in letters:
            raise _wrong(
                place,
                f"the answer of question {number} is {answer!r} and must be one of "
                f"{', '.join(letters)}",
            )
        yield ChoiceExample(
            f"{content['id']}-{number}",
            passage_text(content["article"]),
            tuple(with_option(question, choice) for choice in choices),
            None if answer is None else letters.index(answer),
            group,
        )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def with_option(question: str, option: str) -> str:
    """The text that stands for an option: in the question's gap, or behind the question."""
    return question.replace(_BLANK, option) if _BLANK in question else f"{question} {option}"


def passage_text(article: str) -> str:
    """The article on one line, as fairseq's preprocess_RACE.py has it for RoBERTa.

    A line break would be a token that the encoder hardly saw in pretraining.
    """
    return article.replace("\n", " ")


def _wrong(place: str, why: str) -> UserError:
    return UserError(
        f"{place} is not laid out as RACE's files: {why}. A file must be one JSON object with "
        "article, questions, options and answers, the last three of equal length."
    )
