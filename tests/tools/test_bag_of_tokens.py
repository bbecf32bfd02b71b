"""What tokens tell without their order: counts by hand, and words that only vectors can know."""

import sys

import numpy as np
import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import TextExample
from tests.tools.loading import load_tool


@pytest.fixture(scope="module")
def tool():
    return load_tool("bag_of_tokens")


class Numbers:
    """A tokenizer of texts that are numbers below 40."""

    vocab_size = 40

    def encode_batch(self, texts):
        return [[int(word) for word in text.split()] for text in texts]


def documents(*texts):
    return iter([np.array(text) for text in texts])


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_tokens_are_near_within_a_document_and_five_places(tool, monkeypatch, at_once):
    monkeypatch.setattr(tool, "TOKENS_AT_ONCE", at_once)
    counts, tokens = tool.cooccurrences(documents([0, 1, 0], [2], [3, 4, 4, 4, 4, 5, 6]), 7)
    wanted = np.zeros((7, 7))
    wanted[0, 1] = wanted[1, 0] = 1 + 1
    wanted[0, 0] = 2 * (1 / 2)
    wanted[3, 4] = wanted[4, 3] = 1 + 1 / 2 + 1 / 3 + 1 / 4
    wanted[4, 4] = 2 * (3 + 2 / 2 + 1 / 3)
    wanted[4, 5] = wanted[5, 4] = 1 + 1 / 2 + 1 / 3 + 1 / 4
    wanted[3, 5] = wanted[5, 3] = 1 / 5  # And 3 is six places from 6.
    wanted[4, 6] = wanted[6, 4] = 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5
    wanted[5, 6] = wanted[6, 5] = 1
    np.testing.assert_allclose(counts.toarray(), wanted, rtol=1e-12)
    assert tokens == 11


def text_of_two_topics():
    """Tokens 0 to 9 stand near each other, and 10 to 19; 20 to 29 anywhere; 30 to 39 nowhere."""
    generator = np.random.Generator(np.random.Philox(key=0))
    for number in range(400):
        topic = 10 * (number % 2)
        yield np.concatenate([generator.integers(topic, topic + 10, 8), [20 + number // 2 % 10]])


def test_tokens_of_the_same_company_have_near_vectors(tool):
    vectors = tool.singular_vectors(tool.cooccurrences(text_of_two_topics(), 40)[0], 2)
    np.testing.assert_allclose(np.linalg.norm(vectors[:30], axis=1), 1, rtol=1e-5)
    assert not vectors[30:].any()
    cosines = vectors @ vectors.T
    assert cosines[:10, :10].min() > 0.9 and cosines[10:20, 10:20].min() > 0.9
    assert np.abs(cosines[:10, 10:20]).max() < 0.3


def test_only_vectors_know_tokens_that_were_not_trained_on(tool):
    def examples(first, second):
        return [
            TextExample(str(token), (f"{token} {20 + token % 10}",), label)
            for label, tokens in enumerate((first, second))
            for token in tokens
        ]

    vectors = tool.singular_vectors(tool.cooccurrences(text_of_two_topics(), 40)[0], 2)
    train, dev = examples(range(5), range(10, 15)), examples(range(5, 10), range(15, 20))
    bag, of_vectors, both = tool.accuracies(train, dev, Numbers(), vectors)
    assert (bag, of_vectors, both) == (0.5, 1, 1)


def test_two_texts_are_two_bags(tool):
    pairs = [TextExample("0", ("1 2 2", "3"), 0), TextExample("1", ("3", ""), 1)]
    bags = tool.bag(pairs, Numbers()).toarray()
    wanted = np.zeros((2, 80))
    wanted[0, [1, 2, 40 + 3]] = [1, 2, 1]
    wanted[1, 3] = 1
    np.testing.assert_array_equal(bags, wanted)
    vectors = np.arange(80, dtype=np.float32).reshape(40, 2)
    found = tool.means(tool.bag(pairs, Numbers()), vectors)
    np.testing.assert_allclose(found, [[10 / 3, 13 / 3, 6, 7], [6, 7, 0, 0]], rtol=1e-6)


def test_a_folder_that_is_not_there_is_told(tool, monkeypatch, capsys, tmp_path):
    arguments = ["--task=sst2", "--data=nowhere", f"--tokenizer={tmp_path}", "--input=no.txt"]
    monkeypatch.setattr(sys, "argv", ["bag_of_tokens.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        tool.main()
    assert stopped.value.code == 2 and str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "1.5", "ten", "nan", ""])
def test_a_share_is_a_part(tool, share):
    with pytest.raises(UserError, match="above 0 and at most 1"):
        tool.share_for_folds([TextExample("0", ("1",), 0)], share)


def test_every_label_has_a_row_for_each_fold(tool):
    examples = [TextExample(str(row), ("1",), row % 10 == 0) for row in range(100)]
    assert len(tool.share_for_folds(examples, "1")) == 100
    with pytest.raises(UserError, match=r"has 0\.2: of one label that leaves [0-4] training rows"):
        tool.share_for_folds(examples, "0.2")
