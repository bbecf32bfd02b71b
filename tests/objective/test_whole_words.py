import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from roberta_jax.config import MaskingConfig
from roberta_jax.data.byte_bpe import train_byte_bpe
from roberta_jax.data.json_tokenizer import JsonTokenizer
from roberta_jax.errors import UserError
from roberta_jax.objective.masking import Masker
from roberta_jax.objective.whole_words import choose_words, word_begins, word_starts
from tests.objective.test_masking import chi_square, chi_square_bound

START, PAD, END, UNKNOWN, MASK = 0, 1, 2, 3, 49
SPECIAL = (START, PAD, END, UNKNOWN, MASK)
VOCAB, LENGTH = 50, 32
KEY = jax.random.key(7)
# Tokens 4 to 19 begin a word, 20 to 48 go on with one.
FIRST, REST = range(4, 20), range(20, 49)
STARTS = tuple(i in SPECIAL or i in FIRST for i in range(VOCAB))


@functools.cache
def masker(**settings):
    config = MaskingConfig(whole_words=True, **settings)
    draw = Masker(config, VOCAB, SPECIAL, MASK, word_starts=STARTS)
    return jax.jit(lambda *inputs: draw(*inputs))


def masks(tokens, index, epoch=0, **settings):
    index = np.asarray(index, np.uint32)
    epoch = np.broadcast_to(np.uint32(epoch), index.shape)
    batch = masker(**settings)(tokens, index, epoch, KEY)
    return jax.tree.map(np.asarray, batch)


def row_of(sizes, *, length=LENGTH, seed=0):
    """`<s>`, words of these sizes, `</s>`, padding."""
    source = np.random.Generator(np.random.Philox(key=seed))
    tokens = [START]
    for size in sizes:
        tokens += [source.choice(FIRST), *source.choice(REST, size - 1)]
    tokens.append(END)
    assert len(tokens) <= length
    return np.array(tokens + [PAD] * (length - len(tokens)), np.int32)


def words_of(row):
    """The places of every word, by walking along the row."""
    words = []
    for place, token in enumerate(row.tolist()):
        if token in SPECIAL:
            continue
        goes_on = token in REST and place and row[place - 1] not in SPECIAL
        if goes_on:
            words[-1].append(place)
        else:
            words.append([place])
    return [set(word) for word in words]


def predicted(batch, row):
    places = batch.positions[row][batch.weights[row] > 0]
    assert len(set(places.tolist())) == len(places)
    return set(places.tolist())


def wanted_of(words, rate=0.15):
    count = sum(map(len, words))
    return min(max(round(rate * count), 1), count)


# ---- Which words --------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=20).filter(lambda s: sum(s) <= LENGTH - 2)


@given(sizes, st.integers(0, 2**32 - 1), st.sampled_from([0.15, 0.3, 0.6]))
def test_whole_words_at_most_as_many_tokens_as_wanted_and_at_least_one(sizes, index, rate):
    tokens = row_of(sizes, seed=index)
    batch = masks(tokens[None], [index], rate=rate)
    words, chosen = words_of(tokens), predicted(batch, 0)
    assert list(map(len, words)) == sizes
    wanted = wanted_of(words, rate)
    assert 0 < len(chosen) <= wanted
    parts = [word for word in words if word & chosen and not word <= chosen]
    if min(map(len, words)) > wanted:
        (word,) = parts  # All are too long: the first tokens of one.
        assert chosen == set(sorted(word)[:wanted])
    else:
        assert not parts
        # No word that is left would have fitted.
        left = [len(word) for word in words if not word & chosen]
        assert min(left, default=99) > wanted - len(chosen)
    # The rest of the mask is as for single tokens.
    np.testing.assert_array_equal(batch.targets[0], tokens[batch.positions[0]])
    assert len(set(batch.positions[0].tolist())) == batch.positions.shape[1]
    others = [place for place in range(LENGTH) if place not in chosen]
    np.testing.assert_array_equal(batch.tokens[0, others], tokens[others])
    used = int(batch.weights.sum())
    np.testing.assert_array_equal(batch.weights[0], np.arange(len(batch.weights[0])) < used)


@given(sizes, st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_choice_is_berts(sizes, seed, wanted):
    """create_masked_lm_predictions, with the words in the order that the scores give."""
    tokens = row_of(sizes)
    special = np.isin(np.arange(VOCAB), SPECIAL)
    key = jax.random.key(seed)
    found = _choose(jnp.asarray(tokens), jnp.asarray(special), jnp.int32(wanted), key)
    scores = np.asarray(jax.random.bits(key, (LENGTH,)) >> 8)
    words = sorted(words_of(tokens), key=lambda word: -int(scores[min(word)]))
    chosen = set()
    for word in words:
        if len(chosen) >= wanted:
            break
        if len(chosen) + len(word) <= wanted:
            chosen |= word
    if not chosen:
        chosen = set(sorted(words[0])[:wanted])
    assert set(np.flatnonzero(found).tolist()) == chosen


@jax.jit
def _choose(tokens, special, wanted, key):
    begins = word_begins(tokens, jnp.asarray(STARTS), special)
    return choose_words(begins, ~special[tokens], wanted, key, most=12)


def test_where_all_words_are_single_tokens_the_count_is_exact_and_places_are_uniform():
    tokens = np.tile(row_of([1] * 30), (4096, 1))
    batch = masks(tokens, np.arange(4096))
    np.testing.assert_array_equal(batch.weights.sum(1), 4)
    counts = np.bincount(batch.positions[batch.weights > 0], minlength=LENGTH)
    assert chi_square(counts[1:31], 4096 * 4 / 30) < chi_square_bound(29)
    assert counts[0] == counts[31] == 0


def test_words_of_one_size_are_taken_equally_often_wherever_they_are():
    tokens = np.tile(row_of([2] * 15), (4096, 1))
    batch = masks(tokens, np.arange(4096))
    np.testing.assert_array_equal(batch.weights.sum(1), 4)
    counts = np.bincount(batch.positions[batch.weights > 0], minlength=LENGTH)[1:31]
    np.testing.assert_array_equal(counts[::2], counts[1::2])
    assert chi_square(counts[::2], 4096 * 2 / 15) < chi_square_bound(14)


def test_over_long_words_are_taken_equally_often_and_only_if_there_is_no_other():
    tokens = np.tile(row_of([10, 10, 10]), (2048, 1))
    batch = masks(tokens, np.arange(2048))
    np.testing.assert_array_equal(batch.weights.sum(1), 4)
    firsts = np.bincount(batch.positions[:, 0], minlength=LENGTH)
    assert set(np.flatnonzero(firsts)) == {1, 11, 21}
    assert chi_square(firsts[[1, 11, 21]], 2048 / 3) < chi_square_bound(2)
    tokens = np.tile(row_of([10, 2, 10]), (64, 1))
    batch = masks(tokens, np.arange(64))
    assert all(predicted(batch, row) == {11, 12} for row in range(64))


def test_the_shares_are_80_10_10_token_by_token():
    tokens = np.stack([row_of([2] * 15, seed=seed) for seed in range(4096)])
    batch = masks(tokens, np.arange(4096))
    used = batch.weights > 0
    shown = np.take_along_axis(batch.tokens, batch.positions, axis=1)[used]
    targets = batch.targets[used]
    counts = np.array(
        [(shown == MASK).sum(), ((shown != MASK) & (shown != targets)).sum(), 0], float
    )
    counts[2] = len(shown) - counts.sum()
    expected = np.array([0.8, 0.1 * 44 / 45, 0.1 + 0.1 / 45]) * len(shown)
    assert chi_square(counts, expected) < chi_square_bound(2)


# ---- Special tokens -----------------------------------------------------------------------------


def test_special_tokens_end_words_and_are_not_masked():
    row = np.full(LENGTH, PAD, np.int32)
    row[:9] = [START, 30, 31, END, 32, UNKNOWN, 33, 34, END]
    assert words_of(row) == [{1, 2}, {4}, {6, 7}]
    tokens = np.tile(row, (256, 1))
    batch = masks(tokens, np.arange(256), rate=0.4)  # Two of five tokens.
    seen = {frozenset(predicted(batch, number)) for number in range(256)}
    assert seen == {frozenset({1, 2}), frozenset({6, 7}), frozenset({4})}


def test_special_tokens_can_be_words_of_their_own():
    row = np.full(LENGTH, PAD, np.int32)
    row[:6] = [START, 30, 31, 32, END, UNKNOWN]
    tokens = np.tile(row, (1024, 1))
    batch = masks(tokens, np.arange(1024), rate=0.2, mask_special_tokens=True)  # One of six.
    counts = np.bincount(batch.positions[batch.weights > 0], minlength=LENGTH)
    assert set(np.flatnonzero(counts)) == {0, 4, 5}
    assert chi_square(counts[[0, 4, 5]], 1024 / 3) < chi_square_bound(2)


def test_rows_without_a_word_have_no_prediction():
    tokens = np.full((2, LENGTH), PAD, np.int32)
    tokens[1] = np.resize([START, END], LENGTH)
    batch = masks(tokens, [0, 1])
    assert not batch.weights.any()
    np.testing.assert_array_equal(batch.tokens, tokens)


# ---- Slots, epochs, devices ---------------------------------------------------------------------


def test_more_slots_than_the_rate_needs_and_fewer_tokens_than_slots():
    tokens = np.stack([row_of([1, 2, 3, 4, 5, 6, 7], seed=seed) for seed in range(8)])
    plain = masks(tokens, np.arange(8), rate=0.3)
    wide = masks(tokens, np.arange(8), rate=0.3, num_slots=20)
    assert wide.positions.shape == (8, 20)
    np.testing.assert_array_equal(wide.weights.sum(1), plain.weights.sum(1))
    for row in range(8):
        assert predicted(wide, row) == predicted(plain, row)
    short = np.tile(row_of([1, 1, 2, 1], length=8), (4, 1))
    assert masks(short, np.arange(4), num_slots=20).positions.shape == (4, 8)


def test_masks_are_a_function_of_seed_epoch_and_index():
    tokens = np.stack([row_of([1, 2, 3] * 5, seed=seed) for seed in range(16)])
    index, epoch = np.arange(16) * 77, np.arange(16) % 3
    whole = masks(tokens, index, epoch)
    order = np.random.Generator(np.random.Philox(key=2)).permutation(16)[:5]
    part = masks(tokens[order], index[order], epoch[order])
    for name in ("tokens", "positions", "targets", "weights"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[order])
    other = masks(tokens, index, epoch + 1)
    assert np.mean(np.any(other.tokens != whole.tokens, axis=1)) > 0.8


def test_static_masks_of_whole_words_come_again():
    tokens = np.tile(row_of([1, 2, 3] * 5), (30, 1))
    batch = masks(tokens, np.full(30, 4), np.arange(30), kind="static", num_static_masks=5)
    for epoch in range(30):
        np.testing.assert_array_equal(batch.tokens[epoch], batch.tokens[epoch % 5])
    assert len(np.unique(batch.tokens, axis=0)) == 5


# ---- Vocabularies -------------------------------------------------------------------------------


def starting(tokenizer, ids):
    """Words as text: a token that does not begin one is joined to the one before."""
    starts, words = word_starts(tokenizer), []
    for place, token in enumerate(ids):
        text = tokenizer.pieces()[token]
        if starts[token] or place == 0:
            words.append(text)
        else:
            words[-1] += text
    return [word.decode() for word in words]


def json_tokenizer(tokenizer, names):
    tokenizer.add_special_tokens(list(names))
    roles = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    settings = "{" + ", ".join(f'"{r}": "{n}"' for r, n in zip(roles, names, strict=True)) + "}"
    return JsonTokenizer(tokenizer.to_str(), {"tokenizer_config.json": settings}, "here")


ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def sentencepiece():
    pieces = [(name, 0.0) for name in ROBERTA]
    pieces += [("▁he", -2.0), ("ll", -3.0), ("o", -3.0), ("▁", -4.0), ("w", -4.0), (".", -4.0)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return json_tokenizer(made, ROBERTA)


def word_piece():
    names = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
    tokens = [*names, "he", "##ll", "##o", "w", "."]
    made = tokenizers.Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return json_tokenizer(made, names)


def test_words_of_byte_level_bpe_begin_with_a_blank():
    tokenizer = train_byte_bpe(["the old river and the old house\n" * 20], 270)
    ids = tokenizer.encode("the old rivers. houses\tünder  way")
    words = starting(tokenizer, ids)
    assert "".join(words) == "the old rivers. houses\tünder  way"
    assert words == ["the", " old", " rivers.", " houses", "\tünder", " ", " way"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (sentencepiece, [" hello", " wo.", " he"]),
        # BERT cuts off punctuation before it looks for pieces.
        (word_piece, [" hello", " wo", " .", " he"]),
    ],
)
def test_words_of_other_vocabularies(make, words):
    tokenizer = make()
    assert starting(tokenizer, tokenizer.encode("hello wo. he")) == words


@pytest.mark.parametrize("make", [sentencepiece, word_piece])
def test_special_tokens_begin_words(make):
    tokenizer = make()
    starts = word_starts(tokenizer)
    assert (len(starts), starts.dtype) == (tokenizer.vocab_size, np.bool_)
    assert starts[list(tokenizer.special_ids)].all() and not starts.all()


def test_a_vocabulary_that_does_not_tell_where_words_begin_is_refused():
    vocab = {token: i for i, token in enumerate((*ROBERTA, "a", "b", "ab"))}
    made = tokenizers.Tokenizer(models.BPE(vocab, [("a", "b")], unk_token="<unk>"))
    tokenizer = json_tokenizer(made, ROBERTA)
    with pytest.raises(UserError, match="none of the 8 entries of this one .*whole_words=false"):
        Masker.of(MaskingConfig(whole_words=True), tokenizer)
    Masker.of(MaskingConfig(), tokenizer)  # Masks of tokens do not ask.


def test_the_masker_of_a_run_masks_whole_words_of_its_vocabulary():
    tokenizer = sentencepiece()
    config = MaskingConfig(whole_words=True, rate=0.3, mask_share=1.0, random_share=0.0)
    draw = Masker.of(config, tokenizer, attention="example")
    row = tokenizer.row(tokenizer.encode("hello wo. he hello hello"))
    tokens = np.tile(np.array(row + [tokenizer.pad_id] * (LENGTH - len(row))), (64, 1))
    index = jnp.arange(64, dtype=jnp.uint32)
    batch = jax.jit(lambda: draw(jnp.asarray(tokens), index, 0 * index, KEY))()
    assert batch.segments is not None
    masked = np.asarray(batch.tokens) == tokenizer.mask_id
    # "he" is a word of 1, "hello" one of 3, "wo." one of 4, of 14 tokens 4 are wanted.
    assert len(row) - 2 == 14
    assert set(masked.sum(1).tolist()) == {4}
    seen = {tuple(np.flatnonzero(places).tolist()) for places in masked}
    hello, wo, he = [(1, 2, 3), (9, 10, 11), (12, 13, 14)], (4, 5, 6, 7), 8
    assert seen == {wo, *(tuple(sorted((*word, he))) for word in hello)}
