"""Examples of a task as its files have them, before a tokenizer has seen them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

TRAIN = "train"  # The name of the split that is trained on; the others' are in `Task`.

# Names of the splits that are there → of those that are to be read.
Choose: TypeAlias = Callable[[list[str]], list[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class TextExample:
    """One text or two, of classification and regression.

    Attributes:
      id: as the file has it, or the number of the row, from 0.
      texts: one or two.
      label: number of the class, or the number itself of a regression; None in a test split.
    """

    id: str
    texts: tuple[str, ...]
    label: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class ChoiceExample:
    """A question with several options about a passage (RACE).

    Attributes:
      id: file and number of the question.
      passage: the article.
      options: the question with each option, as one text (a `_` is replaced by the option).
      label: which option is right; None in a test split without answers.
      group: "middle" or "high"; "" where there are no groups.
    """

    id: str
    passage: str
    options: tuple[str, ...]
    label: int | None
    group: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An answer and the character of the passage at which it begins.

    `start` is -1 where the file's offset is wrong, of dev and test only: such an answer is nothing
    to learn from, but predictions are judged by its text all the same.
    """

    text: str
    start: int


@dataclasses.dataclass(frozen=True, slots=True)
class QuestionExample:
    """A question about a passage (SQuAD).

    Attributes:
      id: as in the file.
      question: as in the file.
      passage: as in the file; offsets are into this text.
      answers: all that count as right, the first is trained on; none where there is no answer, and
        in a test split.
      title: of the article.
    """

    id: str
    question: str
    passage: str
    answers: tuple[Answer, ...]
    title: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class WordsExample:
    """Words with a label each.

    Attributes:
      id: number of the row from 0, or as the file has it.
      words: at least one.
      labels: number of the class of each word; None in a test split.
    """

    id: str
    words: tuple[str, ...]
    labels: tuple[int, ...] | None


Example: TypeAlias = TextExample | ChoiceExample | QuestionExample | WordsExample


@dataclasses.dataclass(frozen=True, slots=True)
class Splits:
    """What the files of a task hold.

    Attributes:
      splits: name of the split → its examples, in the order of the file.
      notes: what was left out or mended, a sentence each, for the user to read.
    """

    splits: Mapping[str, Sequence[Example]]
    notes: tuple[str, ...] = ()
