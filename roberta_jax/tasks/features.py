"""Examples → rows of ids with targets, as the heads of RoBERTa and BERT read them."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import (
    ChoiceExample,
    Example,
    QuestionExample,
    TextExample,
    WordsExample,
)
from roberta_jax.tasks.task import Task
from roberta_jax.tasks.windows import (
    Window,
    best_of_windows,
    spans_of_windows,
    tokens_of_answer,
)

NO_LABEL = -1  # Target of a token that has none: special ids, and the later tokens of a word.
# Fewer tokens of a passage say nothing about a question.
LEAST_PASSAGE_TOKENS = 8
_BATCH_TEXTS = 4096  # Encoded at once: the library's own objects take a kilobyte a text.
_CACHED_PASSAGES = 64  # Questions about a passage stand together.


@dataclasses.dataclass(frozen=True, slots=True)
class TaskRows:
    """The rows of a split.

    Attributes:
      ids: R arrays int32 [t], special ids included, none longer than the limit.
      second_starts: int32 [R], the place of the first token of the second text, which is where
        BERT's token types become 1; the length of the row where there is one text.
      targets: of classification int32 [R], of regression float32 [R] (scaled), of choice int32
        [R / group_size], of span int32 [R, 2] (places of the first and the last token of the
        answer; 0, 0 where the row has none), of tokens R arrays int32 [t] with NO_LABEL. None in a
        split without labels.
      group_size: rows, one after the other, of which one prediction is made: the options of a
        choice, otherwise 1.
      windows: of span, what each row shows of which question; empty otherwise.
      word_places: of tokens, R arrays int32: the place of the first token of each word of the
        example; -1 for a word that was cut off. Empty otherwise.
      num_cut: rows whose text did not fit and was cut; of span, questions that were (a passage is
        divided into windows instead), each once.
      num_unreachable: of span, questions whose first answer is wholly in no row, so that nothing is
        learned of it.
    """

    ids: Sequence[np.ndarray]
    second_starts: np.ndarray
    targets: np.ndarray | Sequence[np.ndarray] | None
    group_size: int = 1
    windows: Sequence[Window] = ()
    word_places: Sequence[np.ndarray] = ()
    num_cut: int = 0
    num_unreachable: int = 0

    def __len__(self) -> int:
        """Predictions that are made of the rows."""
        return len(self.ids) // self.group_size


def make_rows(
    task: Task,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    window_stride: int = 128,
    max_question_tokens: int = 64,
    max_option_tokens: int = 128,
) -> TaskRows:
    """The rows of a split.

    Args:
      task: says of which kind the examples are.
      examples: of that kind.
      tokenizer: the model's.
      max_length: most tokens of a row, special ids included. A text that does not fit loses its
        end; of two, the longer one does, token by token (BERT's rule).
      window_stride: of span, tokens from one window of a passage to the next.
      max_question_tokens: of span; a longer question loses its end.
      max_option_tokens: of choice, of question and option together; a longer one loses its
        beginning. fairseq cuts its end (the paper does not say which), where the option mostly
        stands: what is left of several options would be one text, and no model could tell them
        apart.

    Raises:
      UserError: `max_length` leaves no room for the texts, examples of a choice have different
        numbers of options, or some examples have labels and others have none.
    """
    if task.kind == "span":
        return _span_rows(
            cast(Sequence[QuestionExample], examples),
            tokenizer,
            _Limits(max_length, max_question_tokens, "max_question_tokens"),
            window_stride,
        )
    if task.kind == "choice":
        return _choice_rows(
            cast(Sequence[ChoiceExample], examples),
            tokenizer,
            _Limits(max_length, max_option_tokens, "max_option_tokens"),
        )
    if task.kind == "tokens":
        return _word_rows(cast(Sequence[WordsExample], examples), tokenizer, max_length)
    return _text_rows(task, cast(Sequence[TextExample], examples), tokenizer, max_length)


def _text_rows(
    task: Task, examples: Sequence[TextExample], tokenizer: Tokenizer, max_length: int
) -> TaskRows:
    ids, second_starts, num_cut = [], [], 0
    encoded = _encoded((text for example in examples for text in example.texts), tokenizer)
    for example in examples:
        is_pair = len(example.texts) == 2
        room = max_length - _num_special(tokenizer, is_pair)
        if room < len(example.texts):
            raise _too_small(max_length, "every text", max_length - room + len(example.texts))
        first = next(encoded)
        second = next(encoded) if is_pair else None
        kept = _pair_lengths(len(first), len(second or ()), room)
        num_cut += kept != (len(first), len(second or ()))
        row, start = _row(tokenizer, first[: kept[0]], second and second[: kept[1]])
        ids.append(row)
        second_starts.append(start)
    targets = None
    if _are_labelled([example.label for example in examples]):
        labels = np.array([example.label for example in examples], np.float64)
        targets = (
            ((labels - task.shift) / task.scale).astype(np.float32)
            if task.kind == "regression"
            else labels.astype(np.int32)
        )
    return TaskRows(ids, np.array(second_starts, np.int32), targets, num_cut=num_cut)


def _choice_rows(
    examples: Sequence[ChoiceExample], tokenizer: Tokenizer, limits: "_Limits"
) -> TaskRows:
    group_size = len(examples[0].options) if examples else 1
    for example in examples:
        if len(example.options) != group_size:
            raise UserError(
                f"The question {example.id} has {len(example.options)} options, and those before "
                f"it have {group_size}; all questions must have equally many."
            )
    most, num_special = limits.tokens, _num_special(tokenizer, True)
    limits.check(num_special)
    texts = (text for example in examples for text in (example.passage, *example.options))
    encoded = _encoded(texts, tokenizer)
    ids, second_starts, num_cut = [], [], 0
    for _ in examples:
        passage = next(encoded)
        for _ in range(group_size):
            option = next(encoded)
            kept = option[-most:]
            room = limits.max_length - num_special - len(kept)
            num_cut += len(kept) < len(option) or room < len(passage)
            row, start = _row(tokenizer, kept, passage[:room])
            ids.append(row)
            second_starts.append(start)
    labels = [example.label for example in examples]
    return TaskRows(
        ids,
        np.array(second_starts, np.int32),
        np.array(labels, np.int32) if _are_labelled(labels) else None,
        group_size=group_size,
        num_cut=num_cut,
    )


def _span_rows(
    examples: Sequence[QuestionExample],
    tokenizer: Tokenizer,
    limits: "_Limits",
    window_stride: int,
) -> TaskRows:
    num_special = _num_special(tokenizer, True)
    limits.check(num_special)
    if window_stride < 1:
        raise UserError(f"window_stride is {window_stride}; it must be at least 1.")
    ids, second_starts, targets, windows = [], [], [], []
    num_cut = num_unreachable = 0
    passages = _passage_encoder(tokenizer)
    questions = _encoded((example.question.strip() for example in examples), tokenizer)
    for number, (example, question) in enumerate(zip(examples, questions, strict=True)):
        kept = question[: limits.tokens]
        passage, offsets = passages(example.passage)
        spans = spans_of_windows(
            len(passage), limits.max_length - num_special - len(kept), window_stride
        )
        num_cut += len(kept) < len(question)
        answer = _first_answer(example, offsets)
        is_reachable = False
        for (begin, end), best in zip(spans, best_of_windows(spans), strict=True):
            row, start = _row(tokenizer, kept, passage[begin:end])
            inside = slice(start, start + end - begin)
            row_offsets = np.full((len(row), 2), -1, np.int32)
            row_offsets[inside] = offsets[begin:end]
            row_best = np.zeros(len(row), bool)
            row_best[inside] = best
            target = (0, 0)
            if answer and begin <= answer[0] and answer[1] < end:
                target = (start + answer[0] - begin, start + answer[1] - begin)
                is_reachable = True
            ids.append(row)
            second_starts.append(start)
            targets.append(target)
            windows.append(Window(number, row_offsets, row_best))
        num_unreachable += bool(example.answers) and not is_reachable
    has_answers = any(example.answers for example in examples)
    return TaskRows(
        ids,
        np.array(second_starts, np.int32),
        np.array(targets, np.int32) if has_answers else None,
        windows=windows,
        num_cut=num_cut,
        num_unreachable=num_unreachable,
    )


def _first_answer(example: QuestionExample, offsets: np.ndarray) -> tuple[int, int] | None:
    """Its first and last token in the passage."""
    if not example.answers or example.answers[0].start < 0:
        return None
    answer = example.answers[0]
    return tokens_of_answer(offsets, answer.start, answer.start + len(answer.text))


def _passage_encoder(tokenizer: Tokenizer) -> Any:
    @functools.lru_cache(_CACHED_PASSAGES)
    def encode(text: str) -> tuple[list[int], np.ndarray]:
        ids, offsets = tokenizer.encode_with_offsets(text)
        return ids, np.array(offsets, np.int32).reshape(-1, 2)

    return encode


def _word_rows(examples: Sequence[WordsExample], tokenizer: Tokenizer, max_length: int) -> TaskRows:
    room = max_length - _num_special(tokenizer, False)
    if room < 1:
        raise _too_small(max_length, "a word", max_length - room + 1)
    has_labels = _are_labelled([example.labels for example in examples])
    ids, targets, word_places, num_cut = [], [], [], 0
    for example in examples:
        # As running text, so that a word behind another has the blank before it.
        tokens, offsets = tokenizer.encode_with_offsets(" ".join(example.words))
        places = _first_tokens(example.words, np.array(offsets, np.int64).reshape(-1, 2))
        num_cut += len(tokens) > room
        places[places >= room] = -1
        row, _ = _row(tokenizer, tokens[:room], None)
        places[places >= 0] += 1  # Behind `<s>`.
        ids.append(row)
        word_places.append(places)
        if has_labels:
            target = np.full(len(row), NO_LABEL, np.int32)
            has_token = places >= 0
            target[places[has_token]] = np.array(example.labels, np.int32)[has_token]
            targets.append(target)
    return TaskRows(
        ids,
        np.array([len(row) for row in ids], np.int32),
        targets if has_labels else None,
        word_places=word_places,
        num_cut=num_cut,
    )


def _first_tokens(words: Sequence[str], offsets: np.ndarray) -> np.ndarray:
    """int32 [words]: the first token of each word of the text `" ".join(words)`; -1 for none."""
    lengths = np.array([len(word) for word in words], np.int64)
    ends = np.cumsum(lengths + 1) - 1
    filled = np.flatnonzero(lengths)  # A word without characters has no token.
    has_text = np.flatnonzero(offsets[:, 0] < offsets[:, 1])
    begin, end = offsets[has_text].T
    # The first word that ends behind the token's begin is its word, if it begins before its end.
    candidate = np.searchsorted(ends[filled], begin, side="right")
    within = candidate < len(filled)
    word = filled[candidate[within]]
    belongs = (ends - lengths)[word] < end[within]
    places = np.full(len(words), -1, np.int32)
    found, first = np.unique(word[belongs], return_index=True)
    places[found] = has_text[within][belongs][first]
    return places


@dataclasses.dataclass(frozen=True, slots=True)
class _Limits:
    """Of a row, and of the part of it that stands before the passage."""

    max_length: int
    tokens: int
    name: str  # Of the setting `tokens`.

    def check(self, num_special: int) -> None:
        least = num_special + LEAST_PASSAGE_TOKENS + self.tokens
        if self.tokens < 1:
            raise UserError(f"{self.name} is {self.tokens}; it must be at least 1.")
        if self.max_length < least:
            raise UserError(
                f"max_length is {self.max_length}, which leaves too little of the passage beside "
                f"{self.name}={self.tokens} and {num_special} special tokens. Raise max_length to "
                f"at least {least}, or lower {self.name}."
            )


def _encoded(texts: Iterator[str], tokenizer: Tokenizer) -> Iterator[list[int]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH_TEXTS:
            yield from tokenizer.encode_batch(batch)
            batch = []
    if batch:
        yield from tokenizer.encode_batch(batch)


def _row(
    tokenizer: Tokenizer, first: Sequence[int], second: Sequence[int] | None
) -> tuple[np.ndarray, int]:
    """The row int32 [t], and where the second text begins; t where there is none."""
    row = np.array(tokenizer.row(first, second), np.int32)
    return row, len(row) if second is None else len(row) - 1 - len(second)


def _num_special(tokenizer: Tokenizer, is_pair: bool) -> int:
    return len(tokenizer.row([], [] if is_pair else None))


def _pair_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """What is kept of two texts when the longer one loses tokens until both fit.

    Of two of equal length the second one loses the next token, as in BERT.
    """
    if first + second <= room:
        return first, second
    kept = min(second, max(room - first, room // 2))
    return room - kept, kept


def _are_labelled(labels: Sequence[Any]) -> bool:
    """Whether the examples of a split have labels; either all have or none."""
    num_missing = sum(label is None for label in labels)
    if 0 < num_missing < len(labels):
        raise UserError(
            f"{num_missing:,} of {len(labels):,} examples of a split have no label; either all of "
            "them must have one or none."
        )
    return num_missing == 0


def _too_small(max_length: int, what: str, least: int) -> UserError:
    return UserError(
        f"max_length is {max_length}, which leaves no room for {what}. Raise it to at least "
        f"{least}."
    )
