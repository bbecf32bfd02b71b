"""A loaded model, asked from Python."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roberta_jax
from roberta_jax.encoder.model import bind
from roberta_jax.errors import TruncationWarning, UserError
from roberta_jax.inference.model import Model, load
from tests.train.runs import make_dataset

TEXT = "The old river <mask> over the bridge."


@pytest.fixture(scope="module")
def model(complete):
    return load(complete)


def directly(model, ids):
    """Logits [T, V] of a row that is not padded."""
    tokens = jnp.asarray([ids], jnp.int32)
    places = jnp.arange(len(ids))[None]
    logits = bind(model.config, jax.device_get(model._params))(tokens, places)
    return np.asarray(logits, np.float64)[0, :, : model.tokenizer.vocab_size]


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_the_package_hands_out_the_same(complete):
    assert type(roberta_jax.load(complete)) is Model


# ---- Masks --------------------------------------------------------------------------------------


def test_the_candidates_are_the_most_probable_tokens_best_first(model):
    (candidates,) = model.fill_mask(TEXT, top_k=10)
    probabilities = [candidate.probability for candidate in candidates]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) < 1 and len(candidates) == 10

    tokenizer = model.tokenizer
    ids = tokenizer.row(tokenizer.encode_with_masks(TEXT))
    wanted = softmax(directly(model, ids)[ids.index(tokenizer.mask_id)])
    wanted[list(tokenizer.special_ids)] = 0
    np.testing.assert_allclose(probabilities, np.sort(wanted)[::-1][:10], rtol=1e-4)
    assert candidates[0].token == tokenizer.token_text(int(wanted.argmax()))


def test_special_tokens_are_never_proposed(model):
    (candidates,) = model.fill_mask(TEXT, top_k=10_000)
    tokenizer = model.tokenizer
    assert len(candidates) == tokenizer.vocab_size - len(tokenizer.special_ids)
    special = {tokenizer.token_text(token) for token in tokenizer.special_ids}
    assert not special & {candidate.token for candidate in candidates}
    assert all(candidate.probability > 0 for candidate in candidates)
    assert sum(candidate.probability for candidate in candidates) <= 1 + 1e-5


def test_every_mask_of_a_text_gets_its_candidates(model):
    lists = model.fill_mask("<mask> old river <mask> over the <mask>", top_k=3)
    assert [len(candidates) for candidates in lists] == [3, 3, 3]
    assert len({tuple(candidates) for candidates in lists}) == 3  # Each place is another question.


def test_the_same_question_has_the_same_answer(model, complete):
    assert model.fill_mask(TEXT) == model.fill_mask(TEXT) == load(complete).fill_mask(TEXT)
    assert load(complete, step=5).fill_mask(TEXT) != model.fill_mask(TEXT)


def test_a_text_without_a_mask_is_refused(model):
    with pytest.raises(UserError, match="has no <mask>; write it where a word is missing"):
        model.fill_mask("The old river came over the bridge.")


@pytest.mark.parametrize("top_k", [0, -1, 2.0, True, "5"])
def test_a_number_of_candidates_that_cannot_be_is_refused(model, top_k):
    with pytest.raises(UserError, match="top_k is .* at least 1"):
        model.fill_mask(TEXT, top_k=top_k)


def test_one_text_is_asked_for_or_a_list(model):
    with pytest.raises(UserError, match="one text at a time; this is a list"):
        model.fill_mask([TEXT])
    with pytest.raises(UserError, match="Texts must be strings; one is 1"):
        model.encode(["a", 1])


def test_a_text_that_is_too_long_is_cut_with_a_warning_or_refused(model):
    # A letter and the blank before it are one or two tokens; the row has 32 with both ends.
    text = "<mask>" + " q" * 40
    with pytest.warns(TruncationWarning, match=r"has \d+ tokens, and this model takes at most 32"):
        (cut,) = model.fill_mask(text)
    ids = model.tokenizer.row(model.tokenizer.encode_with_masks(text))
    wanted = softmax(directly(model, [*ids[:31], model.tokenizer.eos_id])[1])
    assert cut[0].probability == pytest.approx(wanted[4:-1].max(), rel=1e-4)
    with pytest.raises(UserError, match=r"takes at most 32. Shorten it"):
        model.fill_mask(text, strict=True)
    longest = "<mask>" * 30
    assert len(model.fill_mask(longest, strict=True)) == 30
    with pytest.raises(UserError, match="The text has 33 tokens"):
        model.fill_mask(longest + "<mask>", strict=True)
    late = pytest.raises(UserError, match="No <mask> is within the first 32 tokens")
    with pytest.warns(TruncationWarning), late:
        model.fill_mask("q " * 40 + "<mask>")


# ---- Logits -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_logits_are_those_of_the_rows_alone_whatever_stands_beside_them(model):
    tokenizer = model.tokenizer
    rows = [tokenizer.row(tokenizer.encode(text)) for text in ("The old river", "stone", "q " * 5)]
    longest = max(map(len, rows))
    ids = np.full((3, longest), tokenizer.pad_id)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    found = model.logits(ids)
    assert found.shape == (3, longest, tokenizer.vocab_size) and found.dtype == np.float32
    assert np.isfinite(found).all()
    for number, row in enumerate(rows):
        np.testing.assert_allclose(
            found[number, : len(row)], directly(model, row), rtol=0, atol=2e-5
        )


def test_an_attention_mask_hides_tokens_but_not_their_places(model):
    ids = np.array([[0, 10, 11, 12, 13, 2]])
    mask = np.array([[1, 1, 0, 1, 1, 1]])
    other = ids.copy()
    other[0, 2] = 50
    seen = mask[0].astype(bool)
    hidden = model.logits(ids, mask)[0, seen]
    np.testing.assert_allclose(hidden, model.logits(other, mask)[0, seen], rtol=0, atol=1e-5)
    assert not np.allclose(hidden, model.logits(ids)[0, seen], atol=1e-3)
    moved = model.logits(ids[:, seen])[0]  # Without the token, later ones stand elsewhere.
    assert not np.allclose(hidden, moved, atol=1e-3)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (np.zeros(3, int), None, "whole numbers"),
        (np.zeros((1, 3)), None, "they are float64"),
        (np.zeros((1, 33), int), None, "at most 32"),
        (np.array([[0, 300]]), None, "from 0 to 299"),
        (np.array([[-1]]), None, "go from -1"),
        (np.zeros((1, 3), int), np.ones((1, 2)), "must be equal"),
    ],
)
def test_ids_that_cannot_be_are_refused(model, ids, mask, message):
    with pytest.raises(UserError, match=message):
        model.logits(ids, mask)


# ---- Features -----------------------------------------------------------------------------------


def test_features_are_states_and_their_mean(model):
    texts = ["The old river carried a stone.", "", "wind"]
    features = model.encode(texts)
    longest = features.ids.shape[1]
    assert features.tokens.shape == (3, longest, 16) and features.sentence.shape == (3, 16)
    assert features.tokens.dtype == features.sentence.dtype == np.float32
    for number, text in enumerate(texts):
        row = model.tokenizer.row(model.tokenizer.encode(text))
        assert features.ids[number, : len(row)].tolist() == row
        assert features.attention_mask[number].tolist() == [
            place < len(row) for place in range(longest)
        ]
        states = bind(model.config, jax.device_get(model._params)).states(jnp.array([row]))[0]
        np.testing.assert_allclose(features.tokens[number, : len(row)], states, rtol=0, atol=1e-5)
        assert not features.tokens[number, len(row) :].any()
        np.testing.assert_allclose(
            features.sentence[number], states.mean(axis=0), rtol=0, atol=1e-5
        )
    assert model.encode([]).sentence.shape == (0, 16)
    with pytest.raises(UserError, match="list of texts"):
        model.encode("one text")


def test_many_texts_are_few_programs(model, monkeypatch):
    shapes = set()
    original = Model._run

    def watched(self, function, *arrays):
        shapes.add(arrays[0].shape)
        return original(self, function, *arrays)

    monkeypatch.setattr(Model, "_run", watched)
    texts = ["stone " * (number % 7) for number in range(300)]
    features = model.encode(texts)
    assert shapes <= {(rows, length) for rows in (2**k for k in range(9)) for length in (16, 32)}
    assert len(shapes) <= 4
    np.testing.assert_allclose(features.sentence[6], features.sentence[13], rtol=0, atol=1e-5)


# ---- Scores -------------------------------------------------------------------------------------


def test_a_token_is_scored_by_what_the_others_say_of_it(model):
    text = "The old river."
    (scored,) = model.score_tokens([text])
    ids = model.tokenizer.row(model.tokenizer.encode(text))
    assert [token.token for token in scored] == [model.tokenizer.token_text(i) for i in ids[1:-1]]
    for place, token in enumerate(scored, start=1):
        masked = [*ids[:place], model.tokenizer.mask_id, *ids[place + 1 :]]
        wanted = np.log(softmax(directly(model, masked)[place])[ids[place]])
        assert token.log_probability == pytest.approx(wanted, abs=1e-4)


def test_perplexity_is_the_exponential_of_the_mean_loss(model):
    texts = ["The old river.", "", "stone and wind"]
    found = model.perplexity(texts)
    assert found.shape == (3,) and np.isnan(found[1])
    for text, perplexity in zip(texts, found, strict=True):
        if text:
            (scored,) = model.score_tokens([text])
            losses = [-token.log_probability for token in scored]
            assert perplexity == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_attention_is_one_distribution_for_every_token(model):
    tokens, weights = model.attention("The old river")
    assert "".join(tokens) == "<s>The old river</s>"
    assert weights.shape == (2, 2, len(tokens), len(tokens))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-5)


# ---- What cannot be loaded ----------------------------------------------------------------------


def test_what_is_not_there_is_refused(complete, tmp_path):
    with pytest.raises(UserError, match="is not there"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match="has no checkpoint of step 7"):
        load(complete, step=7)


def test_another_tokenizer_than_the_model_was_trained_with_is_refused(complete, tmp_path):
    workdir = shutil.copytree(complete, tmp_path / "run")
    shutil.rmtree(workdir / "tokenizer")
    shutil.copytree(make_dataset(tmp_path / "data", seed=1) / "tokenizer", workdir / "tokenizer")
    with pytest.raises(UserError, match="and the model was trained with"):
        load(workdir)
