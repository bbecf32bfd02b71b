"""Shares of the training rows, and the batches of several seeds side by side."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax import config as c
from roberta_jax.finetune.rows import BatchMaker, cut_texts, share_of
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.tasks.batches import Batches, row_lengths
from roberta_jax.tasks.examples import ChoiceExample, QuestionExample, TextExample
from roberta_jax.tasks.features import TaskRows, make_rows
from tests.finetune.models import PASSAGE, make_model

EXAMPLES = [f"example {number}" for number in range(1000)]


@given(st.integers(0, 2**30), st.floats(1e-4, 1), st.floats(1e-4, 1))
def test_a_smaller_share_is_part_of_a_larger_one(seed, one, other):
    small, large = (share_of(EXAMPLES, share, seed=seed) for share in sorted((one, other)))
    assert set(small) <= set(large)
    assert len(small) == max(1, round(1000 * min(one, other)))
    places = [EXAMPLES.index(example) for example in large]
    assert places == sorted(set(places)), "in the order of the file, each once"


def test_a_share_is_a_function_of_the_seed():
    one, same, other = (share_of(EXAMPLES, 0.1, seed=seed) for seed in (3, 3, 4))
    assert one == same and set(one) != set(other)
    assert len(set(one) & set(other)) < 30  # 10 of the 100 in the mean.
    assert share_of(EXAMPLES, 1.0, seed=5) == EXAMPLES


def test_a_share_has_one_example_at_least():
    assert len(share_of(EXAMPLES[:5], 0.01, seed=0)) == 1


# ---- What was cut -------------------------------------------------------------------------------


def cut_of(name, examples):
    model = make_model(name)
    limits = dataclasses.asdict(model.limits)  # 48 tokens, 20 of a question or an option.
    rows = make_rows(model.task, examples, model.tokenizer, **limits)
    return cut_texts(model.task, rows, model.limits), rows


def test_what_was_cut_is_told_by_its_kind():
    long, end = "river " * 60, " too long for this model, which reads at most "
    text, rows = cut_of("span", [QuestionExample("q", q, PASSAGE, ()) for q in (long, "Why?")])
    assert text == f"1 of 2 questions is{end}20 tokens" and len(rows.ids) > 2
    options = ("a", "b", long), ("a", "b", "c")
    text, _ = cut_of("choice", [ChoiceExample("q", "A river.", each, None) for each in options])
    assert text == (
        f"1 of 6 options with their passages is{end}20 of question and option, in all 48 tokens"
    )
    text, _ = cut_of("classification", [TextExample("0", (t,), None) for t in (long, "a", "b")])
    assert text == f"1 of 3 texts is{end}48 tokens"
    text, _ = cut_of("classification", [TextExample("0", (long,), None)] * 2)
    assert text == f"2 of 2 texts are{end}48 tokens"


def test_where_nothing_was_cut_nothing_is_told():
    assert cut_of("span", [QuestionExample("q", "Why?", PASSAGE, ())])[0] == ""


# ---- Batches of several seeds -------------------------------------------------------------------

SEEDS = (3, 4, 900)


def some_rows(count=70, group_size=1):
    """Rows of which token and target tell the number; most are short."""
    generator = np.random.Generator(np.random.Philox(key=2))
    lengths = generator.integers(2, 16, count * group_size)
    lengths[::25] += 30
    ids = [np.full(length, 100 + number, np.int32) for number, length in enumerate(lengths)]
    return TaskRows(
        ids,
        np.array(lengths // 2, np.int32),
        np.arange(count, dtype=np.int32),
        group_size=group_size,
    )


@pytest.fixture(scope="module")
def maker():
    mesh = make_mesh(c.MeshConfig())
    return BatchMaker(mesh, pad_id=1, token_types=True, max_length=64)


def taken(maker, rows, seeds, count, *, first_step=0):
    found = maker.training(rows, seeds, batch_size=8, first_step=first_step)
    return [jax.device_get(batch) for batch in itertools.islice(found, count)]


def test_every_seed_has_the_batches_that_it_has_alone(maker):
    rows = some_rows()
    together = taken(maker, rows, SEEDS, 20)
    for place, seed in enumerate(SEEDS):
        for batch, alone in zip(together, taken(maker, rows, [seed], 20), strict=True):
            length = alone["tokens"].shape[2]
            tokens = batch["tokens"][place]
            assert (tokens[:, :length] == alone["tokens"][0]).all() and (
                tokens[:, length:] == 1
            ).all()
            types = batch["token_types"][place]
            assert (types[:, :length] == alone["token_types"][0]).all() and not types[
                :, length:
            ].any()
            for name in ("targets", "weights"):
                assert (batch[name][place] == alone[name][0]).all()
    assert len({batch["tokens"].shape for batch in together}) > 1


def test_seeds_have_orders_of_their_own_and_see_every_row_once_an_epoch(maker):
    rows = some_rows()
    batches = taken(maker, rows, SEEDS, 2 * 9)  # 70 rows are nine batches.
    orders = []
    for place in range(len(SEEDS)):
        for epoch in (batches[:9], batches[9:]):
            order = [
                int(target)
                for batch in epoch
                for target, weight in zip(
                    batch["targets"][place], batch["weights"][place], strict=True
                )
                if weight
            ]
            assert sorted(order) == list(range(70))
            orders.append(tuple(order))
    assert len(set(orders)) == 2 * len(SEEDS)


def test_one_padded_length_holds_the_rows_of_all_seeds(maker):
    rows = some_rows()
    lengths = row_lengths(rows)
    orders = [Batches(lengths, batch_size=8, max_length=64, seed=seed) for seed in SEEDS]
    for step, batch in enumerate(taken(maker, rows, SEEDS, 12)):
        assert batch["tokens"].shape[:2] == (3, 8)
        assert batch["tokens"].shape[2] == max(order.at(step)[1] for order in orders)


@pytest.mark.parametrize("step", [1, 8, 9, 13])
def test_a_stop_at_any_step_changes_no_batch(maker, step):
    rows = some_rows()
    straight, resumed = (
        taken(maker, rows, SEEDS, 20),
        taken(maker, rows, SEEDS, 20 - step, first_step=step),
    )
    for before, after in zip(straight[step:], resumed, strict=True):
        assert before.keys() == after.keys()
        for name in before:
            np.testing.assert_array_equal(after[name], before[name])


def test_rows_of_a_group_stay_together(maker):
    rows = some_rows(20, group_size=4)
    for batch in taken(maker, rows, [3], 3):
        assert batch["tokens"].shape[:2] == (1, 32) and batch["targets"].shape == (1, 8)
        firsts = batch["tokens"][0, :, 0].reshape(8, 4) - 100
        assert (firsts == 4 * batch["targets"][0][:, None] + np.arange(4)).all()


def test_rows_are_split_over_the_devices(maker):
    batch = next(maker.training(some_rows(), SEEDS, batch_size=8, first_step=0))
    for leaf in batch.values():
        assert len(leaf.sharding.device_set) == 8
        assert {shard.data.shape[:2] for shard in leaf.addressable_shards} == {(3, 1)}
