"""A corpus in parts that can be prepared one without the other, by any process or machine.

What a part holds depends on the sizes of the files only, never on the machine: so the shards are
the same for any number of processes, and a part that is finished need not be made again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from roberta_jax.data.inputs import InputFile, Span

# Enough text that starting with a part costs nothing, and little enough that many processes have
# work to share.
PART_BYTES = 16 << 20
# A larger corpus has larger parts instead of more: a loader holds every shard open.
MOST_PARTS = 512  # Of a split, but for one more.


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Documents of one split's input that are prepared together.

    Attributes:
      number: over all parts of the corpus, from 0.
      split: what the input was given for, "train" or "validation".
      spans: where the documents are, in their order.
    """

    number: int
    split: str
    spans: tuple[Span, ...]

    @property
    def bytes(self) -> int:
        """Its size as stored."""
        return sum(span.bytes for span in self.spans)

    def key(self, settings: Mapping[str, Any]) -> str:
        """16 hexadecimal digits that depend on `settings`, the files' state and the spans."""
        content = [settings, dataclasses.asdict(self)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def plan_parts(
    files: Mapping[str, Sequence[InputFile]], *, divide_plain_text: bool = True
) -> list[Part]:
    """The parts of a corpus, in the order of its files.

    Args:
      files: those of every split.
      divide_plain_text: whether a large file of plain text may be divided; not where a file is a
        document.
    """
    text_bytes = sum(file.text_bytes for split in files for file in files[split])
    # Two parts that follow each other have at least 3/2 of it together.
    wanted = max(PART_BYTES, -(-text_bytes * 4 // (3 * MOST_PARTS)))
    parts: list[Part] = []
    for split, of_split in files.items():
        spans: list[Span] = []
        size = 0
        for file in of_split:
            for span in _spans(file, wanted, divide_plain_text):
                share = file.text_bytes * span.bytes // max(file.bytes, 1)
                # A part ends before it grows too large, or else at the first span that fills it.
                if spans and size + share > wanted * 3 // 2:
                    parts.append(Part(len(parts), split, tuple(spans)))
                    spans, size = [], 0
                spans.append(span)
                size += share
                if size >= wanted:
                    parts.append(Part(len(parts), split, tuple(spans)))
                    spans, size = [], 0
        if spans:
            parts.append(Part(len(parts), split, tuple(spans)))
    return parts


def _spans(file: InputFile, wanted: int, divide_plain_text: bool) -> Iterator[Span]:
    if file.is_compressed or (file.is_plain_text and not divide_plain_text):
        yield Span.whole(file)
        return
    count = max(1, round(file.text_bytes / wanted))
    borders = [file.bytes * i // count for i in range(count + 1)]
    for begin, end in zip(borders, borders[1:], strict=False):
        yield Span(file, begin, end)
