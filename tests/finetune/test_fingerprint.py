"""What makes a trial another one."""

import dataclasses

import numpy as np
import pytest

from roberta_jax.finetune.fingerprint import rows_fingerprint, weights_fingerprint
from roberta_jax.finetune.rows import SplitRows
from roberta_jax.tasks.examples import TextExample
from roberta_jax.tasks.features import TaskRows

WEIGHTS = {"layers": {"a": np.arange(6.0).reshape(2, 3)}, "embedding": np.zeros(4, np.float32)}
EXAMPLES = (TextExample("0", ("one",), 0.0), TextExample("1", ("two",), 1.0))
ROWS = TaskRows(
    ids=[np.array([1, 2], np.int32), np.array([3], np.int32)],
    second_starts=np.array([2, 1], np.int32),
    targets=np.array([0, 1], np.int32),
)
SPLIT = SplitRows("train", EXAMPLES, ROWS)


def other(**changes):
    return dataclasses.replace(SPLIT, rows=dataclasses.replace(ROWS, **changes))


def test_the_same_content_has_the_same_name():
    assert len(weights_fingerprint(WEIGHTS)) == len(rows_fingerprint([SPLIT])) == 16
    assert weights_fingerprint(WEIGHTS) == weights_fingerprint(
        {name: WEIGHTS[name] for name in sorted(WEIGHTS)}
    )
    assert rows_fingerprint([SPLIT]) == rows_fingerprint([other(ids=tuple(ROWS.ids))])
    assert weights_fingerprint({}) == "drawn"


@pytest.mark.parametrize(
    "changed",
    [
        {**WEIGHTS, "embedding": np.array([0, 0, 0, 1], np.float32)},
        {**WEIGHTS, "embedding": np.zeros(4, np.float16)},
        {**WEIGHTS, "embedding": np.zeros((2, 2), np.float32)},
        {"layers": WEIGHTS["layers"], "head": WEIGHTS["embedding"]},
    ],
    ids=["value", "dtype", "shape", "name"],
)
def test_other_weights_have_another_name(changed):
    assert weights_fingerprint(changed) != weights_fingerprint(WEIGHTS)


@pytest.mark.parametrize(
    "changed",
    [
        [dataclasses.replace(SPLIT, name="dev")],
        [SPLIT, SPLIT],
        [dataclasses.replace(SPLIT, examples=EXAMPLES[::-1])],
        [other(ids=[np.array([1], np.int32), np.array([2, 3], np.int32)])],
        [other(targets=np.array([1, 1], np.int32))],
        [other(targets=None)],
        [other(second_starts=np.array([1, 1], np.int32))],
        [other(group_size=2)],
        [other(targets=[np.array([0], np.int32), np.array([1], np.int32)])],
    ],
    ids=["name", "more", "order", "division", "label", "none", "second", "group", "of tokens"],
)
def test_other_rows_have_another_name(changed):
    assert rows_fingerprint(changed) != rows_fingerprint([SPLIT])
