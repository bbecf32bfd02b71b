import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import MaskingConfig
from roberta_jax.objective.loss import masked_lm_sums
from roberta_jax.objective.masking import Masker

START, PAD, END, UNKNOWN, MASK = 0, 1, 2, 3, 49
SPECIAL = (START, PAD, END, UNKNOWN, MASK)
VOCAB, LENGTH = 50, 32
KEY = jax.random.key(7)

# Never to change: a resumed run would see other masks than the run that it continues.
GOLDEN_ROW = [
    *(0, 16, 9, 11, 22, 46, 21, 23, 17, 11, 36, 6, 27, 25, 8, 48),
    *(5, 34, 40, 14, 30, 33, 13, 48, 12, 23, 40, 47, 14, 24, 34, 2),
]
GOLDEN = {
    "tokens": [
        [
            *(0, 16, 9, 11, 22, 46, 21, 23, 17, 11, 36, 6, 28, 25, 8, 48),
            *(5, 34, 40, 49, 30, 33, 13, 48, 12, 23, 40, 47, 14, 49, 34, 2),
        ],
        [
            *(0, 34, 12, 49, 40, 21, 18, 36, 18, 41, 13, 44, 27, 6, 35, 39),
            *(37, 20, 41, 40, 35, 9, 14, 49, 34, 11, 17, 49, 37, 32, 26, 2),
        ],
    ],
    "positions": [[12, 19, 29, 24, 8], [11, 27, 23, 3, 30]],
    "targets": [[27, 14, 24, 12, 17], [32, 43, 19, 17, 26]],
    "weights": [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]],
}


def masker(**settings):
    """The masker as a jitted function of (tokens, index, epoch)."""
    draw = Masker(MaskingConfig(**settings), VOCAB, SPECIAL, MASK)
    run = jax.jit(lambda *inputs: draw(*inputs))
    return lambda tokens, index, epoch, key=KEY: jax.tree.map(
        np.asarray,
        run(tokens, np.uint32(index), np.uint32(np.broadcast_to(epoch, len(index))), key),
    )


dynamic = masker()


def random_rows(num_rows, length=LENGTH, seed=0):
    """`<s>`, ordinary tokens, `</s>`."""
    source = np.random.Generator(np.random.Philox(key=seed))
    tokens = source.integers(4, MASK, (num_rows, length), np.int32)
    tokens[:, 0], tokens[:, -1] = START, END
    return tokens


ROWS = random_rows(8)


@functools.cache
def large():
    """4096 rows and their masks: 4096 · 4 predictions (15% of 30 is 4.5, which rounds to even)."""
    tokens = random_rows(4096)
    return tokens, dynamic(tokens, np.arange(4096), 0)


def assert_same(one, another):
    jax.tree.map(np.testing.assert_array_equal, one, another)


def restored(batch):
    """The tokens with the targets put back."""
    tokens = batch.tokens.copy()
    np.put_along_axis(tokens, batch.positions, batch.targets, axis=1)
    return tokens


def predicted(batch, length=LENGTH):
    """Which places [B, T] are predicted."""
    chosen = np.zeros((len(batch.positions), length), bool)
    np.put_along_axis(chosen, batch.positions, batch.weights > 0, axis=1)
    return chosen


def shown(batch):
    return np.take_along_axis(batch.tokens, batch.positions, axis=1)


def chi_square(counts, expected):
    return (((counts - expected) ** 2) / expected).sum()


def chi_square_bound(degrees):
    """Passed once in about 10⁶ draws: Wilson and Hilferty's approximation at 4.75 deviations."""
    return degrees * (1 - 2 / (9 * degrees) + 4.75 * np.sqrt(2 / (9 * degrees))) ** 3


def test_golden_masks():
    batch = dynamic(ROWS, np.arange(8) * 613_566_756, np.arange(8) * 7)
    assert ROWS[1].tolist() == GOLDEN_ROW
    for name, rows in GOLDEN.items():
        assert getattr(batch, name)[[1, 6]].tolist() == rows, name


@pytest.mark.parametrize(
    ("rate", "special"), [(0.01, False), (0.15, False), (0.15, True), (0.5, False), (0.95, True)]
)
def test_a_row_has_exactly_round_of_rate_times_n_predictions(rate, special):
    # Rows with 0, 1, … 32 tokens that may be masked, the rest padding.
    tokens = random_rows(LENGTH + 1, LENGTH + 2)[:, 1:-1]
    lengths = np.arange(LENGTH + 1)
    tokens[np.arange(LENGTH) >= lengths[:, None]] = PAD
    batch = masker(rate=rate, mask_special_tokens=special)(tokens, lengths, 0)
    # `round` of Python rounds halves to even, as does jnp.round.
    wanted = [min(max(round(rate * n), 1), n) for n in lengths.tolist()]
    np.testing.assert_array_equal(batch.weights.sum(1), wanted)
    assert batch.weights.shape[1] == MaskingConfig(rate=rate).max_masked(LENGTH)


def test_predictions_fill_the_first_of_a_fixed_number_of_slots():
    tokens, batch = large()
    assert batch.positions.shape == batch.targets.shape == batch.weights.shape == (4096, 5)
    assert (batch.tokens.dtype, batch.positions.dtype) == (np.int32, np.int32)
    assert (batch.targets.dtype, batch.weights.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(batch.weights, np.broadcast_to([1, 1, 1, 1, 0], (4096, 5)))
    assert all(len(set(row)) == 5 for row in batch.positions.tolist())


def test_more_slots_change_no_mask_and_short_rows_have_as_many_as_tokens():
    plain, wide = dynamic(ROWS, np.arange(8), 0), masker(num_slots=9)(ROWS, np.arange(8), 0)
    assert wide.positions.shape == (8, 9)
    np.testing.assert_array_equal(wide.positions[:, :5], plain.positions)
    np.testing.assert_array_equal(wide.weights.sum(1), plain.weights.sum(1))
    np.testing.assert_array_equal(restored(wide), ROWS)
    short = masker(num_slots=9)(ROWS[:, :6], np.arange(8), 0)  # Of a phase of shorter rows.
    assert short.positions.shape == (8, 6)
    np.testing.assert_array_equal(short.weights.sum(1), 1)


def test_targets_are_the_original_tokens_and_nothing_else_changes():
    tokens, batch = large()
    np.testing.assert_array_equal(batch.targets, np.take_along_axis(tokens, batch.positions, 1))
    np.testing.assert_array_equal(restored(batch), tokens)
    changed = batch.tokens != tokens
    assert changed.sum() > 0.8 * 4 * 4096
    assert not np.any(changed & ~predicted(batch))


def test_unused_slots_show_the_token_that_is_there():
    tokens, batch = large()
    unused = batch.weights == 0
    assert unused.sum() == 4096
    np.testing.assert_array_equal(shown(batch)[unused], batch.targets[unused])


def test_special_tokens_are_not_predicted():
    tokens = random_rows(512)
    tokens[:, 5], tokens[:, 9], tokens[:, 20:] = UNKNOWN, MASK, PAD
    batch = masker(rate=0.9)(tokens, np.arange(512), 0)
    ordinary = ~np.isin(tokens, SPECIAL)
    assert not np.any(predicted(batch) & ~ordinary)
    assert np.all(np.any(predicted(batch) & ordinary, axis=1))


def test_special_tokens_can_be_predicted_but_padding_never():
    tokens = random_rows(512)
    tokens[:, 5], tokens[:, 9], tokens[:, 20:] = UNKNOWN, MASK, PAD
    batch = masker(mask_special_tokens=True)(tokens, np.arange(512), 0)
    counts = predicted(batch).sum(0)
    assert not np.any(counts[20:])
    # 3 of the 20 places of each row, all alike.
    assert counts.sum() == 512 * 3
    assert chi_square(counts[:20], 512 * 3 / 20) < chi_square_bound(19)


def test_every_maskable_place_is_predicted_equally_often():
    _, batch = large()
    counts = predicted(batch).sum(0)
    assert counts[0] == counts[-1] == 0
    assert chi_square(counts[1:-1], 4096 * 4 / 30) < chi_square_bound(29)


def test_every_pair_of_places_is_predicted_equally_often():
    _, batch = large()
    chosen = predicted(batch)[:, 1:-1].astype(int)
    pairs = (chosen.T @ chosen)[np.triu_indices(30, 1)]
    assert pairs.sum() == 4096 * 6
    assert chi_square(pairs, pairs.sum() / 435) < chi_square_bound(434)


def test_the_shares_are_80_10_10_whatever_the_slot():
    _, batch = large()
    used = batch.weights > 0
    masked = shown(batch) == MASK
    same = shown(batch) == batch.targets
    # One of 45 random tokens is the token itself.
    expected = np.array([0.8, 0.1 * 44 / 45, 0.1 + 0.1 / 45])
    for slot in (slice(None), *range(4)):
        kinds = np.stack([masked, ~masked & ~same, same])[..., slot]
        counts = (kinds & used[:, slot]).reshape(3, -1).sum(1)
        assert chi_square(counts, expected * counts.sum()) < chi_square_bound(2)
        assert counts.sum() == used[:, slot].sum()


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.3, 0.6)])
def test_the_shares_are_those_of_the_config(shares):
    mask_share, random_share = shares
    tokens = random_rows(1024)
    batch = masker(mask_share=mask_share, random_share=random_share)(tokens, np.arange(1024), 0)
    used = batch.weights > 0
    masked = (shown(batch) == MASK)[used].mean()
    same = (shown(batch) == batch.targets)[used].mean()
    assert abs(masked - mask_share) <= 5 * np.sqrt(mask_share * (1 - mask_share) / used.sum())
    expected = 1 - mask_share - random_share * 44 / 45
    assert abs(same - expected) <= 5 * np.sqrt(expected * (1 - expected) / used.sum()) + 1e-9


def test_random_replacements_are_ordinary_tokens_and_all_of_them_equally_often():
    tokens = random_rows(4096)
    batch = masker(mask_share=0.0, random_share=1.0)(tokens, np.arange(4096), 0)
    counts = np.bincount(shown(batch)[batch.weights > 0], minlength=VOCAB)
    assert len(counts) == VOCAB
    assert not np.any(counts[list(SPECIAL)])
    ordinary = np.delete(counts, SPECIAL)
    assert chi_square(ordinary, ordinary.sum() / 45) < chi_square_bound(44)


@given(
    st.permutations(range(8)),
    st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8),
    st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8),
)
def test_a_mask_is_a_function_of_seed_epoch_and_index(order, index, epoch):
    order, index, epoch = np.array(order), np.array(index), np.array(epoch)
    batch = dynamic(ROWS, index, epoch)
    moved = dynamic(ROWS[order], index[order], epoch[order])
    assert_same(moved, jax.tree.map(lambda leaf: leaf[order], batch))


def test_a_mask_does_not_depend_on_the_size_of_the_batch():
    index = np.arange(100, 108)
    batch = dynamic(ROWS, index, 3)
    part = dynamic(ROWS[:3], index[:3], 3)
    assert_same(part, jax.tree.map(lambda leaf: leaf[:3], batch))


def test_a_mask_does_not_depend_on_the_tokens_that_may_be_masked():
    index = np.arange(8)
    one, another = dynamic(ROWS, index, 0), dynamic(random_rows(8, seed=1), index, 0)
    np.testing.assert_array_equal(one.positions, another.positions)
    np.testing.assert_array_equal(shown(one) == MASK, shown(another) == MASK)


def test_another_seed_epoch_or_index_is_another_mask():
    tokens = np.broadcast_to(ROWS[0], (4096, LENGTH))
    index, epoch = np.divmod(np.arange(4096), 16)
    batches = [dynamic(tokens, index, epoch, jax.random.key(seed)) for seed in (0, 1)]
    orders = np.concatenate([batch.positions for batch in batches])
    # There are 17,100,720 orders of five of 30 places: of 8192 draws, about two meet by chance.
    assert len(np.unique(orders, axis=0)) > 8192 - 2 - 5 * np.sqrt(2)


def test_epoch_and_index_are_not_interchangeable():
    one, another = dynamic(ROWS, np.full(8, 3), 5), dynamic(ROWS, np.full(8, 5), 3)
    assert not np.array_equal(one.positions, another.positions)


@pytest.mark.parametrize("num_static_masks", [10, 3])
def test_static_masks_come_again_after_their_number_of_epochs(num_static_masks):
    static = masker(kind="static", num_static_masks=num_static_masks)
    epochs = np.arange(32)
    tokens, index = np.broadcast_to(ROWS[0], (32, LENGTH)), np.full(32, 4)
    batch = static(tokens, index, epochs)
    for later in epochs[num_static_masks:]:
        first = later % num_static_masks
        assert_same(*(jax.tree.map(lambda leaf, e=e: leaf[e], batch) for e in (first, later)))
    masks = np.sort(batch.positions[:, :4])
    assert len(np.unique(masks, axis=0)) == num_static_masks
    # The first masks are those of dynamic masking, which goes on to others.
    moving = dynamic(tokens, index, epochs)
    np.testing.assert_array_equal(batch.tokens[:num_static_masks], moving.tokens[:num_static_masks])
    assert len(np.unique(np.sort(moving.positions[:, :4]), axis=0)) == 32


def test_rows_without_a_maskable_token_have_no_prediction_and_no_nan():
    tokens = ROWS.copy()
    tokens[0] = PAD
    tokens[1] = np.resize([START, END], LENGTH)
    tokens[2, 1:-1] = UNKNOWN
    batch = dynamic(tokens, np.arange(8), 0)
    np.testing.assert_array_equal(batch.weights.sum(1), [0, 0, 0, 4, 4, 4, 4, 4])
    np.testing.assert_array_equal(batch.tokens[:3], tokens[:3])

    logits = jnp.zeros((8, 5, 56)).at[..., VOCAB:].set(-jnp.inf)

    @jax.jit
    def loss(logits, rows):
        sums = masked_lm_sums(logits, batch.targets, batch.weights * rows[:, None])
        return sums.loss / jnp.maximum(sums.count, 1)

    for rows, expected in ((np.ones(8), np.log(50)), (np.arange(8) < 3, 0)):
        value, gradient = jax.value_and_grad(loss)(logits, rows)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert np.all(np.isfinite(gradient))


def test_the_type_of_the_rows_on_disk_makes_no_difference():
    assert_same(dynamic(ROWS.astype(np.uint16), np.arange(8), 0), dynamic(ROWS, np.arange(8), 0))


def test_eight_devices_draw_what_one_device_draws():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    index, epoch = np.arange(8, dtype=np.uint32), np.full(8, 2, np.uint32)
    spread = jax.device_put((ROWS, index, epoch), NamedSharding(mesh, P("data")))
    draw = Masker(MaskingConfig(), VOCAB, SPECIAL, MASK)
    batch = jax.jit(lambda *inputs: draw(*inputs, KEY))(*spread)
    assert len(batch.tokens.sharding.device_set) == 8
    assert_same(batch, dynamic(ROWS, index, epoch))


def test_rows_of_several_examples_have_segments():
    rows = np.full((2, LENGTH), PAD, np.int32)
    rows[0, :10] = [START, 5, 6, END, START, 7, 8, 9, END, START]
    rows[1] = [START, *range(5, LENGTH + 3), END]
    index = jnp.arange(2, dtype=jnp.uint32)
    packed = Masker(MaskingConfig(mask_special_tokens=True), VOCAB, SPECIAL, MASK, PAD, START)
    masked = packed(jnp.asarray(rows), index, index, KEY)
    # Also where <s> itself is masked.
    assert masked.segments[0].tolist() == [1] * 4 + [2] * 5 + [3] * (LENGTH - 9)
    assert masked.segments[1].tolist() == [1] * LENGTH
    whole = Masker(MaskingConfig(), VOCAB, SPECIAL, MASK)(jnp.asarray(rows), index, index, KEY)
    assert whole.segments is None
