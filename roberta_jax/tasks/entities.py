"""Labels of words → entities, and their precision, recall and F1 as CoNLL's conlleval counts them.

Which words make an entity depends on the labels of the task:

- All but "O" have a prefix (B-PER, I-PER; also E- and S-, L- and U-): conlleval's rules. A chunk
  begins at B or S; at I or E after O, after E or S, and after another type. So a stray I- counts.
- No prefixes, but "O": neighbours of one type are one entity.
- No prefixes and no "O", such as parts of speech: every word is an entity of its own, so that F1 is
  the accuracy.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

OUTSIDE = "O"
# Prefix → what it says of the word: it begins a chunk, it ends one.
_BEGINS = {"B": True, "I": False, "E": False, "L": False, "S": True, "U": True}
_ENDS = {"B": False, "I": False, "E": True, "L": True, "S": True, "U": True}

Entity: TypeAlias = tuple[str, int, int]


def entities(classes: Sequence[int] | np.ndarray, labels: Sequence[str]) -> list[Entity]:
    """The entities of a sentence: type, first word, and the word after the last.

    Args:
      classes: number of the label of each word.
      labels: all labels of the task.
    """
    return _entities(classes, _tags(labels))


def entity_scores(
    truth: Sequence[Sequence[int] | np.ndarray],
    predicted: Sequence[Sequence[int] | np.ndarray],
    labels: Sequence[str],
) -> tuple[float, float, float]:
    """Precision, recall and F1 over the entities of all sentences; 0 where there is none to count.

    An entity is right where type, first and last word are those of an entity of the truth.
    """
    tags = _tags(labels)
    num_right = num_true = num_predicted = 0
    for true_classes, predicted_classes in zip(truth, predicted, strict=True):
        gold = set(_entities(true_classes, tags))
        found = set(_entities(predicted_classes, tags))
        num_right += len(gold & found)
        num_true += len(gold)
        num_predicted += len(found)
    precision = num_right / num_predicted if num_predicted else 0.0
    recall = num_right / num_true if num_true else 0.0
    total = num_predicted + num_true
    return precision, recall, 2 * num_right / total if total else 0.0


def _tags(labels: Sequence[str]) -> list[tuple[str, bool, bool]]:
    """Of each label: the type ("" is outside), whether it begins and whether it ends a chunk."""
    named = [label for label in labels if label != OUTSIDE]
    prefixed = all(label[1:2] == "-" and label[0] in _BEGINS for label in named)
    alone = OUTSIDE not in labels
    tags = []
    for label in labels:
        if label == OUTSIDE:
            tags.append(("", False, False))
        elif prefixed:
            # "B-" has no type: two such neighbours are of the same one.
            tags.append((label[2:] or "-", _BEGINS[label[0]], _ENDS[label[0]]))
        else:
            tags.append((label, alone, alone))
    return tags


def _entities(
    classes: Sequence[int] | np.ndarray, tags: Sequence[tuple[str, bool, bool]]
) -> list[Entity]:
    found: list[Entity] = []
    open_kind, start, ended = "", 0, False
    for word, number in enumerate(classes):
        kind, begins, ends = tags[number]
        if open_kind and (begins or ended or kind != open_kind):
            found.append((open_kind, start, word))
            open_kind = ""
        if kind and not open_kind:
            open_kind, start = kind, word
        ended = ends
    if open_kind:
        found.append((open_kind, start, len(classes)))
    return found
