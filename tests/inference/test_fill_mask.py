"""Candidates for the masks of a text."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.encoder.model import bind
from roberta_jax.errors import UserError
from roberta_jax.inference.fill_mask import MaskFiller
from tests.train.runs import make_dataset

TEXT = "The old river <mask> over the bridge."


@pytest.fixture(scope="module")
def fill(complete):
    return MaskFiller(complete)


def directly(fill, ids, place):
    """Probabilities [V] at a place of a row that is not padded."""
    tokens = jnp.asarray([ids], jnp.int32)
    logits = bind(fill._config.encoder, jax.device_get(fill._params))(tokens, jnp.array([[place]]))
    logits = np.asarray(logits, np.float64)[0, 0, : fill.tokenizer.vocab_size]
    return np.exp(logits) / np.exp(logits).sum()


def test_the_candidates_are_the_most_probable_tokens_best_first(fill):
    (candidates,) = fill(TEXT, top_k=10)
    probabilities = [candidate.probability for candidate in candidates]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) < 1 and len(candidates) == 10

    tokenizer = fill.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.encode_with_masks(TEXT), tokenizer.eos_id]
    wanted = directly(fill, ids, ids.index(tokenizer.mask_id))
    wanted[list(tokenizer.special_ids)] = 0
    np.testing.assert_allclose(probabilities, np.sort(wanted)[::-1][:10], rtol=1e-4)
    assert candidates[0].token == tokenizer.token_text(int(wanted.argmax()))


def test_special_tokens_are_never_proposed(fill):
    (candidates,) = fill(TEXT, top_k=10_000)
    assert len(candidates) == fill.tokenizer.vocab_size - len(fill.tokenizer.special_ids)
    special = {fill.tokenizer.token_text(token) for token in fill.tokenizer.special_ids}
    assert not special & {candidate.token for candidate in candidates}
    assert all(candidate.probability > 0 for candidate in candidates)
    assert sum(candidate.probability for candidate in candidates) <= 1 + 1e-5


def test_every_mask_of_a_text_gets_its_candidates(fill):
    lists = fill("<mask> old river <mask> over the <mask>", top_k=3)
    assert [len(candidates) for candidates in lists] == [3, 3, 3]
    assert len({tuple(candidates) for candidates in lists}) == 3  # Each place is another question.


def test_padding_does_not_change_the_answer(fill, monkeypatch):
    from roberta_jax.inference import fill_mask as module

    (wanted,) = fill(TEXT)
    seen = []
    full = np.full

    def shorter(shape, value, dtype):
        seen.append(shape)
        return full((1, 20), value, dtype)  # Instead of the 32 that the length is rounded up to.

    monkeypatch.setattr(module.np, "full", shorter)
    (found,) = fill(TEXT)
    assert seen == [(1, 32)]
    assert [candidate.token for candidate in found] == [candidate.token for candidate in wanted]
    for left, right in zip(found, wanted, strict=True):
        assert left.probability == pytest.approx(right.probability, rel=1e-5)


def test_the_same_question_has_the_same_answer(fill, complete):
    assert fill(TEXT) == fill(TEXT) == MaskFiller(complete)(TEXT)
    assert MaskFiller(complete, step=5)(TEXT) != fill(TEXT)


def test_a_text_without_a_mask_is_refused(fill):
    with pytest.raises(UserError, match="has no <mask>; write <mask> where a word is missing"):
        fill("The old river came over the bridge.")


def test_a_text_that_is_too_long_is_refused_and_the_longest_is_not(fill):
    # A letter and the blank before it are one or two tokens; the row has 32 with both ends.
    text = "<mask>" + " q" * 40
    with pytest.raises(UserError, match=r"The text has \d+ tokens; this model takes at most 32"):
        fill(text)
    longest = "<mask>" * 30
    assert len(fill(longest)) == 30
    with pytest.raises(UserError, match="The text has 33 tokens"):
        fill(longest + "<mask>")


def test_what_is_not_there_is_refused(complete, tmp_path):
    with pytest.raises(UserError, match="is not a workdir"):
        MaskFiller(tmp_path / "none")
    with pytest.raises(UserError, match="has no checkpoint of step 7"):
        MaskFiller(complete, step=7)


def test_another_tokenizer_than_the_model_was_trained_with_is_refused(complete, tmp_path):
    workdir = shutil.copytree(complete, tmp_path / "run")
    shutil.rmtree(workdir / "tokenizer")
    shutil.copytree(make_dataset(tmp_path / "data", seed=1) / "tokenizer", workdir / "tokenizer")
    with pytest.raises(UserError, match="and the model was trained with"):
        MaskFiller(workdir)
