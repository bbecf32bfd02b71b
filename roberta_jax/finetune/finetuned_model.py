"""A fine-tuned model that was loaded once and is asked many times."""

import dataclasses
import pathlib
import warnings
from collections.abc import Sequence
from typing import TypeAlias, cast

import jax
from jax.sharding import Mesh

from roberta_jax.config import MeshConfig
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import TruncationWarning, UserError
from roberta_jax.finetune.foreign_task import read_foreign_task_model
from roberta_jax.finetune.model_folder import TaskModelFolder, find_task_model, read_task_model
from roberta_jax.finetune.predict import Predictor
from roberta_jax.finetune.rows import cut_texts
from roberta_jax.interop.huggingface import is_huggingface_folder
from roberta_jax.interop.import_model import what_is_wrong
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.tasks.catalogue import GLUE
from roberta_jax.tasks.examples import (
    ChoiceExample,
    Example,
    QuestionExample,
    TextExample,
    WordsExample,
)
from roberta_jax.tasks.features import TaskRows
from roberta_jax.tasks.glue import num_texts
from roberta_jax.tasks.predictions import Predictions
from roberta_jax.tasks.race import passage_text, with_option
from roberta_jax.tasks.submission import answers_given
from roberta_jax.tasks.task import Task
from roberta_jax.train.workdir import CONFIG_FILE
from roberta_jax.wording import count_of

# What is done with each kind of task, for the message to somebody who asks for something else.
_USES = {
    "classification": "predict(texts, pairs)",
    "regression": "predict(texts, pairs)",
    "tokens": "predict(texts)",
    "span": "answer(questions, passages)",
    "choice": "choose(question, options, passage)",
}


@dataclasses.dataclass(frozen=True)
class ChosenLabel:
    """A class of a text, or an option of a question."""

    label: str
    probability: float
    probabilities: dict[str, float]  # Of every class, the most probable first.


@dataclasses.dataclass(frozen=True)
class FoundAnswer:
    """An answer to a question.

    Attributes:
      text: as it is in the passage; "" for no answer.
      no_answer_score: of a model that may leave a question unanswered, what was compared with its
        threshold; None otherwise.
    """

    text: str
    no_answer_score: float | None


LabelledWords: TypeAlias = list[tuple[str, str]]  # (word, label) in the order of the text.


class FinetunedModel:
    """A model of a task; computes in float32.

    Attributes:
      task: its kind, its labels.
      tokenizer: its vocabulary.
      columns: of a user's table that it was fine-tuned on: role → name of the column.
      max_tokens: of a row, special ones included.
      no_answer_threshold: a question with a greater score of no answer gets none; None: every
        question is answered.
      num_texts: that an example must have, 1 or 2; 0 where that is not known.
    """

    def __init__(
        self, model: TaskModelFolder, mesh: Mesh, *, no_answer_threshold: float | None = None
    ):
        """Use `load_task`."""
        if no_answer_threshold is not None and model.task.kind != "span":
            raise UserError(
                f"A threshold for no answer was given ({no_answer_threshold:g}), and "
                f"{model.task.title} asks for no answers: it is {model.task.kind}."
            )
        encoder = dataclasses.replace(
            model.encoder, compute_dtype="float32", rematerialization="none"
        )
        if no_answer_threshold is None:
            no_answer_threshold = model.no_answer_threshold
        self.no_answer_threshold = no_answer_threshold
        self._mesh = mesh
        self._predictor = Predictor(
            dataclasses.replace(model, encoder=encoder),
            mesh,
            may_be_unanswerable=no_answer_threshold is not None,
        )
        self.task: Task = self._predictor.task
        self.tokenizer: Tokenizer = model.tokenizer
        self.columns, self.max_tokens = model.columns, model.limits.max_length
        self.num_texts = _num_texts(self.task, model.columns)

    def predict(
        self,
        texts: Sequence[str | Sequence[str]],
        pairs: Sequence[str] | None = None,
        *,
        strict: bool = False,
    ) -> list[ChosenLabel] | list[float] | list[LabelledWords]:
        """A class, a number, or labelled words of each text.

        Args:
          texts: any number; of labelled words, each a list of words, or a text with blanks between
            them.
          pairs: the second text of each, for a task about pairs.
          strict: refuse a text that is too long, instead of cutting it with a TruncationWarning.

        Returns:
          Of classification `ChosenLabel`s, of regression numbers in the unit of the labels, of
          tokens (word, label) of every word.

        Raises:
          UserError: the model is for questions, pairs are missing or too many, or a text is not
            valid Unicode.
        """
        self._must_be("predict", "classification", "regression", "tokens")
        texts = _texts(texts, "texts")
        if self.task.kind == "tokens":
            return self._labelled_words(texts, pairs, strict=strict)
        examples = self._text_examples(cast(Sequence[str], texts), pairs)
        found = self.predictions(examples, strict=strict)
        if found is None:
            return []
        if self.task.kind == "regression":
            return [float(value) for value in found.values]
        assert found.probabilities is not None
        return [_chosen(self.task.labels, row.tolist()) for row in found.probabilities]

    def answer(
        self, questions: Sequence[str], passages: Sequence[str], *, strict: bool = False
    ) -> list[FoundAnswer]:
        """The part of its passage that answers each question.

        Args:
          questions: any number.
          passages: one for each; as long as they like, they are read in windows.
          strict: refuse a question that is too long, instead of cutting it with a warning.

        Raises:
          UserError: the model is not one of questions, or a text is empty or not valid Unicode.
        """
        self._must_be("answer", "span")
        examples = question_examples(_texts(questions, "questions"), _texts(passages, "passages"))
        found = self.predictions(examples, strict=strict)
        if found is None:
            return []
        scores = [None] * len(examples) if found.no_answer is None else found.no_answer.tolist()
        texts = answers_given(found, self.no_answer_threshold)
        return [FoundAnswer(text, score) for text, score in zip(texts, scores, strict=True)]

    def choose(
        self, question: str, options: Sequence[str], passage: str, *, strict: bool = False
    ) -> ChosenLabel:
        """Which of the options is the right one.

        Args:
          question: where it has a `_`, the option takes its place.
          options: two or more, all different.
          passage: what the question is about; its line breaks count as blanks.
          strict: refuse texts that are too long, instead of cutting them with a warning.

        Raises:
          UserError: the model is not one of multiple choice, or there are no two options.
        """
        self._must_be("choose", "choice")
        options = _texts(options, "options")
        if len(options) < 2 or len(set(options)) < len(options):
            raise UserError(
                f"The options are {list(options)}; there must be two at least, each once."
            )
        whole = tuple(with_option(question, option) for option in options)
        example = ChoiceExample("0", passage_text(passage), whole, None)
        found = self.predictions([example], strict=strict)
        assert found is not None and found.probabilities is not None
        return _chosen(options, found.probabilities[0].tolist())

    def predictions(
        self, examples: Sequence[Example], *, strict: bool = False
    ) -> Predictions | None:
        """What the model says of examples of its task's kind; None of none."""
        if not examples:
            return None
        rows = self._predictor.rows(examples)
        self._tell_of_cut(rows, strict=strict)
        with jax.set_mesh(self._mesh):
            return self._predictor(examples, rows)

    def _tell_of_cut(self, rows: TaskRows, *, strict: bool) -> None:
        text = cut_texts(self.task, rows, self._predictor.model.limits)
        if not text:
            return
        if strict:
            raise UserError(f"{text}. Shorten what is too long, or let it be cut.")
        warnings.warn(f"{text}; what is beyond was cut off.", TruncationWarning, stacklevel=4)

    def _labelled_words(
        self, texts: Sequence[str | Sequence[str]], pairs: Sequence[str] | None, *, strict: bool
    ) -> list[LabelledWords]:
        if pairs is not None:
            raise UserError("Words with a label each are of one text; leave the second one out.")
        words = [tuple(text.split() if isinstance(text, str) else text) for text in texts]
        examples = [WordsExample(str(i), each, None) for i, each in enumerate(words)]
        if empty := [example.id for example in examples if not example.words]:
            raise UserError(f"The text {empty[0]} (from 0) has no words.")
        found = self.predictions(examples, strict=strict)
        if found is None:
            return []
        names = self.task.labels
        return [
            [(word, names[label]) for word, label in zip(each, labels.tolist(), strict=True)]
            for each, labels in zip(words, found.values, strict=True)
        ]

    def _text_examples(
        self, texts: Sequence[str], pairs: Sequence[str] | None
    ) -> list[TextExample]:
        if self.num_texts == 2 and pairs is None:
            raise UserError(
                f"{self.task.title} is about pairs of texts; give the second text of each too, by "
                "--text_pair (from Python: pairs)."
            )
        if self.num_texts == 1 and pairs is not None:
            raise UserError(
                f"{self.task.title} is about single texts; leave the second ones out (--text_pair, "
                "from Python: pairs)."
            )
        if pairs is None:
            return [TextExample(str(i), (text,), None) for i, text in enumerate(texts)]
        pairs = _texts(pairs, "pairs")
        if len(pairs) != len(texts):
            raise UserError(
                f"Given: {count_of(len(texts), 'text')} and {count_of(len(pairs), 'second one')}"
                " (--text_pair, from Python: pairs); each must have one."
            )
        both = enumerate(zip(texts, pairs, strict=True))
        return [TextExample(str(i), pair, None) for i, pair in both]

    def _must_be(self, name: str, *kinds: str) -> None:
        if self.task.kind not in kinds:
            raise UserError(
                f"{name} is for {', '.join(kinds)}, and this model, for {self.task.title}, is for "
                f"{self.task.kind}: use {_USES[self.task.kind]}."
            )


def question_examples(questions: Sequence[str], passages: Sequence[str]) -> list[QuestionExample]:
    """Questions about a passage each.

    Raises:
      UserError: there are not as many of both, or one of them is empty.
    """
    if len(questions) != len(passages):
        raise UserError(
            f"Given: {count_of(len(questions), 'question')} and "
            f"{count_of(len(passages), 'passage')}; each question must have one."
        )
    for number, pair in enumerate(zip(questions, passages, strict=True)):
        for what, text in zip(("question", "passage"), pair, strict=True):
            if not text.strip():
                raise UserError(f"The {what} {number} (from 0) is empty.")
    return [
        QuestionExample(str(i), question, passage, ())
        for i, (question, passage) in enumerate(zip(questions, passages, strict=True))
    ]


def load_task(
    path: str | pathlib.Path, *, task: str = "", no_answer_threshold: float | None = None
) -> FinetunedModel:
    """Loads a fine-tuned model.

    Args:
      path: a fine-tuning workdir, the folder of a task in it or of a model, or a Hugging Face
        folder of one of transformers' classes for tasks.
      task: of a workdir with several tasks, whose model; of a Hugging Face folder, the published
        task that it is a model of. "" where neither has to be said.
      no_answer_threshold: of span: the greatest score of no answer with which a question is still
        answered; None for the one that was chosen in training, or to answer every question where
        none was.

    Raises:
      UserError: it is no such model, or incomplete or damaged.
    """
    folder = local_path(path)
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        found = find_task_model(folder, task)
        if found is not None:
            model = read_task_model(found, mesh)
            if task and task != model.task.name:
                raise UserError(
                    f"{found} is a model of {model.task.name}, not of {task}. Leave the task out, "
                    "or give another folder."
                )
        elif is_huggingface_folder(folder):
            model = read_foreign_task_model(folder, mesh, task)
        else:
            raise _no_model(folder, task)
        return FinetunedModel(model, mesh, no_answer_threshold=no_answer_threshold)


def _no_model(folder: pathlib.Path, task: str) -> UserError:
    if (folder / CONFIG_FILE).is_file():
        return UserError(
            f"{folder} is the workdir of a pretraining run, and its model has no head for a task. "
            f"Fine-tune it first: `roberta-jax finetune --init_from={folder}`."
        )
    if folder.is_dir():
        what = f"has no fine-tuned model{f' of {task}' if task else ''}"
    else:
        what = what_is_wrong(folder)
    return UserError(
        f"{folder} {what}. Give the --workdir of `roberta-jax finetune`, the folder of a task in "
        "it, or a Hugging Face folder of a class such as RobertaForSequenceClassification."
    )


def _num_texts(task: Task, columns: dict[str, str]) -> int:
    if task.name in {each.name for each in GLUE}:
        return num_texts(task)
    if columns:
        return 2 if columns.get("text_pair") else 1
    return 0


def _texts(values: Sequence, name: str) -> Sequence:
    if isinstance(values, str):
        raise UserError(f"{name} must be a list, not one text: [text].")
    return list(values)


def _chosen(labels: Sequence[str], probabilities: Sequence[float]) -> ChosenLabel:
    order = sorted(range(len(labels)), key=lambda number: -probabilities[number])
    by_label = {labels[number]: probabilities[number] for number in order}
    return ChosenLabel(labels[order[0]], probabilities[order[0]], by_label)
