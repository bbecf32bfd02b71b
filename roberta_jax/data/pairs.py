"""BERT's SEGMENT-PAIR and the paper's SENTENCE-PAIR: two segments of text and a label.

An example is `<s> a </s></s> b </s>` (one `</s>` in between where a tokenizer has it so). Half of
the second segments are what follows the first in its document, half come from another document; the
model is to tell which. Partners are drawn within a block of documents, so memory stays bounded.
"""

import bisect
import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from roberta_jax.data.packing import RowPacker
from roberta_jax.data.rows import NextSentence, RowCounts, check_sequence_length, sentence_ends
from roberta_jax.errors import UserError

# Tokens that are held at a time; partners come from the same block.
BLOCK_TOKENS = 1 << 23
# Tokens of earlier documents that are kept as partners for a block of a single document.
RESERVE_TOKENS = 1 << 16
# BERT draws the target length once for a document. In a long one it is drawn again after so many
# tokens: otherwise all pairs of a book may get the same short length, which leaves a hole in each
# of their rows, and the share of short pairs in a corpus of few books is left to chance.
TARGET_TOKENS = 1 << 13
# Tokens of text that fit into the shortest rows.
SHORTEST_PAIR_TOKENS = 8
# A row has one label for so many tokens.
TOKENS_PER_LABEL = 16


class PairPacker:
    """Pairs up the segments of a stream of documents and packs the pairs into rows.

    The pairs of a document are made by `create_instances_from_document` of google-research/bert,
    create_pretraining_data.py: whole sentences make a chunk of about the target length; a random
    number of them is the first segment; the second is the rest of the chunk, or, with probability
    1/2, sentences of another document, and then the rest begins the next chunk. What is longer than
    an example is cut off at the front and the back of the longer segment.

    SENTENCE-PAIR is the same with chunks of two sentences and one random sentence.

    All choices are drawn from one stream of random numbers in the order of the documents.
    """

    def __init__(
        self,
        sequence_length: int,
        *,
        bos_id: int,
        pad_id: int,
        eos_id: int,
        double_separator: bool,
        single_sentences: bool = False,
        short_sequence_probability: float = 0.1,
        key: Sequence[int] = (0,),
        block_tokens: int = BLOCK_TOKENS,
        reserve_tokens: int = RESERVE_TOKENS,
    ):
        """Makes rows of `sequence_length` tokens and a label for each pair.

        Args:
          sequence_length: most tokens of an example, and tokens of a row.
          bos_id: `<s>`.
          pad_id: padding.
          eos_id: `</s>`.
          double_separator: whether two `</s>` stand between the segments.
          single_sentences: SENTENCE-PAIR instead of SEGMENT-PAIR.
          short_sequence_probability: share of the documents whose segment pairs have a random
            target length; the others fill an example.
          key: the choices are a function of it and of the documents.
          block_tokens: documents are held until there are so many tokens, `</s>` included.
          reserve_tokens: of each of two earlier documents, kept for a block of a single document.

        Raises:
          UserError: the rows are too short, or the probability is none.
        """
        num_special = 4 if double_separator else 3
        check_sequence_length(sequence_length, num_special + SHORTEST_PAIR_TOKENS)
        if not 0 <= short_sequence_probability <= 1:
            raise UserError(
                f"short_sequence_probability is {short_sequence_probability}; it must be from 0 "
                "to 1."
            )
        self.counts = RowCounts()
        self.label_slots = max(sequence_length // TOKENS_PER_LABEL, 1)
        self._eos_id = eos_id
        self._num_separators = num_special - 2
        self._most_text = sequence_length - num_special
        self._single_sentences = single_sentences
        self._short_sequence_probability = short_sequence_probability
        self._block_tokens = block_tokens
        self._reserve_tokens = reserve_tokens
        self._draws = _Draws(key)
        self._rows = RowPacker(
            sequence_length,
            bos_id=bos_id,
            pad_id=pad_id,
            counts=self.counts,
            label_slots=self.label_slots,
        )
        self._at_border = False
        # The block so far: ids as they came, and where in them a document begins or goes on.
        self._pieces: list[np.ndarray] = []
        self._num_tokens = 0
        self._starts: list[int] = []
        self._numbers: list[int] = []  # Of its documents, counted through the corpus.
        self._reserves: list[_Document] = []

    def add(self, ids: np.ndarray, *, starts_document: bool = True) -> None:
        """Takes the next sentences of the corpus; see `Packer`."""
        self._at_border |= starts_document
        if not len(ids):
            return
        ends = sentence_ends(ids, self._eos_id)
        self.counts.sentences += len(ends)
        if self._at_border:
            self._at_border = False
            self.counts.documents += 1
            self._note_document()
        start = 0
        # A block ends with the sentence that fills it, wherever the calls divide the corpus.
        while self._num_tokens + len(ids) - start >= self._block_tokens:
            wanted = start + self._block_tokens - self._num_tokens
            stop = int(ends[np.searchsorted(ends, wanted)])
            self._hold(ids[start:stop])
            self._pair_block()
            start = stop
        self._hold(ids[start:])

    def finish(self) -> None:
        """Makes the last pairs and closes the last rows."""
        self._pair_block()
        self._rows.finish()

    def take_rows(self) -> np.ndarray:
        """The rows closed since the last call, [n, sequence_length + label_slots] int32."""
        return self._rows.take_rows()

    def _note_document(self) -> None:
        self._starts.append(self._num_tokens)
        self._numbers.append(self.counts.documents)

    def _hold(self, ids: np.ndarray) -> None:
        if len(ids):
            if not self._starts:  # A document goes on from the block before.
                self._note_document()
            self._pieces.append(ids.astype(np.int32))
            self._num_tokens += len(ids)

    def _pair_block(self) -> None:
        """Makes all pairs of the block and lets go of it."""
        documents = self._take_block()
        numbers = {document.number for document in documents}
        # The reserves matter when the block is a part of one long document.
        partners = documents + [one for one in self._reserves if one.number not in numbers]
        for index in range(len(documents)):
            self._pair_document(index, partners)
        latest = [one.tail(self._reserve_tokens) for one in documents[:-3:-1]]
        numbers = {document.number for document in latest}
        # Two, so that one of them is another document, whichever the next block goes on with.
        self._reserves = (latest + [one for one in self._reserves if one.number not in numbers])[:2]

    def _take_block(self) -> list["_Document"]:
        """The documents of the block, which is then empty; without those that have no text."""
        if not self._pieces:
            return []
        ids = np.concatenate(self._pieces)
        starts, numbers = self._starts, self._numbers
        self._pieces, self._num_tokens, self._starts, self._numbers = [], 0, [], []
        separators = np.flatnonzero(ids == self._eos_id)  # [sentences]
        ends = separators - np.arange(len(separators))  # Where sentences end in the text alone.
        lengths = np.diff(ends, prepend=0)
        self.counts.over_long_sentences += int(np.count_nonzero(lengths > self._most_text))
        has_text = lengths > 0
        text = _Text(ids[ids != self._eos_id], np.concatenate([[0], ends[has_text]]))
        # The first sentence of each document, and the end of the last.
        firsts = np.searchsorted(separators[has_text], [*starts, len(ids)]).tolist()
        return [
            _Document(number, text, first, stop)
            for number, first, stop in zip(numbers, firsts, firsts[1:], strict=False)
            if stop > first
        ]

    def _pair_document(self, index: int, partners: list["_Document"]) -> None:
        """Makes the pairs of `partners[index]`, with random segments of the other partners."""
        document = partners[index]
        target, target_until = 0, document.text.borders[document.first]
        most_in_chunk, most_in_random = (2, 1) if self._single_sentences else (sys.maxsize,) * 2
        first = document.first
        while first < document.stop:
            if document.text.borders[first] >= target_until:
                target = self._draw_target()
                target_until = document.text.borders[first] + TARGET_TOKENS
            stop = document.reach(first, target, most_in_chunk)
            num_sentences = stop - first
            middle = first + 1
            if num_sentences > 2:
                middle += self._draws.below(num_sentences - 1)
            segment_a = document.segment(first, middle)
            if len(partners) > 1 and (num_sentences == 1 or self._draws.uniform() < 0.5):
                other = self._draws.below(len(partners) - 1)
                partner = partners[other + (other >= index)]
                start = partner.first + self._draws.below(partner.stop - partner.first)
                end = partner.reach(start, target - len(segment_a), most_in_random)
                self._write(segment_a, partner.segment(start, end), NextSentence.RANDOM)
                first = middle  # The rest of the chunk is used again.
            elif num_sentences > 1:
                self._write(segment_a, document.segment(middle, stop), NextSentence.NEXT)
                first = stop
            else:
                self.counts.truncated_tokens += len(segment_a)
                first = stop

    def _draw_target(self) -> int:
        """How many tokens of text the pairs of a document shall have."""
        if self._single_sentences:
            return sys.maxsize
        if self._draws.uniform() < self._short_sequence_probability:
            return 2 + self._draws.below(self._most_text - 1)
        return self._most_text

    def _write(self, first: np.ndarray, second: np.ndarray, label: NextSentence) -> None:
        """Puts a pair into a row, each segment int32 [n], cut to what fits."""
        cut_first, cut_second = truncation(len(first), len(second), self._most_text)
        if cut_first:
            front = self._draws.heads(cut_first)
            first = first[front : len(first) - cut_first + front]
        if cut_second:
            front = self._draws.heads(cut_second)
            second = second[front : len(second) - cut_second + front]
        begin = 1 + len(first) + self._num_separators
        example = self._rows.reserve(begin + len(second) + 1, label)
        example[1 : 1 + len(first)] = first
        example[1 + len(first) : begin] = self._eos_id
        example[begin:-1] = second
        example[-1] = self._eos_id
        self.counts.truncated_tokens += cut_first
        if label is NextSentence.NEXT:
            self.counts.next_pairs += 1
            self.counts.truncated_tokens += cut_second
        else:
            self.counts.random_pairs += 1
            self.counts.repeated_tokens += len(second)


def truncation(first: int, second: int, most: int) -> tuple[int, int]:
    """How many tokens are cut from two segments of these lengths so that `most` are left.

    One at a time from the longer, from the second if they are equal (`truncate_seq_pair` of BERT's
    create_pretraining_data.py).
    """
    excess = max(first + second - most, 0)
    cut_first = min(max(first - second, 0), excess)
    cut_second = min(max(second - first, 0), excess)
    rest = excess - cut_first - cut_second  # From both in turn, the second first.
    return cut_first + rest // 2, cut_second + (rest + 1) // 2


class _Text:
    """Sentences without `</s>`: sentence i is `tokens[borders[i] : borders[i + 1]]`."""

    def __init__(self, tokens: np.ndarray, borders: np.ndarray):
        self.tokens = tokens  # int32 [n]
        # int64 [sentences + 1]; as a memoryview it gives Python's ints, which `bisect` needs to be
        # fast, without holding them all.
        self.borders: Sequence[int] = memoryview(borders.astype(np.int64).data)


@dataclasses.dataclass(frozen=True, slots=True)
class _Document:
    """The sentences of a text from `first` to before `stop`; at least one, and none is empty."""

    number: int
    text: _Text
    first: int
    stop: int

    def segment(self, first: int, stop: int) -> np.ndarray:
        """The tokens of the sentences from `first` to before `stop`, int32 [n]."""
        return self.text.tokens[self.text.borders[first] : self.text.borders[stop]]

    def reach(self, first: int, length: int, most_sentences: int) -> int:
        """The sentence behind those from `first` on that together reach `length` tokens.

        They are at least one, at most `most_sentences`, and end with the document.
        """
        borders = self.text.borders
        stop = bisect.bisect_left(borders, borders[first] + length, first + 1, self.stop)
        return min(stop, first + most_sentences)

    def tail(self, most_tokens: int) -> "_Document":
        """A copy of the last sentences: at most so many tokens, but at least one sentence."""
        borders = self.text.borders
        begin = borders[self.stop] - most_tokens
        first = bisect.bisect_left(borders, begin, self.first, self.stop - 1)
        kept = np.asarray(borders[first : self.stop + 1])
        text = _Text(self.segment(first, self.stop).copy(), kept - kept[0])
        return _Document(self.number, text, 0, self.stop - first)


class _Draws:
    """A stream of random choices; uniform numbers are made in batches, which is faster."""

    def __init__(self, key: Sequence[int]):
        self._generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([*key])))
        self._waiting: list[float] = []

    def uniform(self) -> float:
        """In [0, 1)."""
        if not self._waiting:
            self._waiting = self._generator.random(1024).tolist()
        return self._waiting.pop()

    def below(self, number: int) -> int:
        """One of 0, …, number - 1."""
        return int(self.uniform() * number)

    def heads(self, tosses: int) -> int:
        """How many of so many tosses of a fair coin are heads."""
        return int(self._generator.binomial(tosses, 0.5))
