"""Vocabularies of the three kinds, trained on or made of the same few words."""

import pytest

from roberta_jax.data.byte_bpe import train_byte_bpe
from roberta_jax.data.tokenizer_folder import load_tokenizer
from tests.data.test_json_tokenizer import WORDS, write_unigram, write_word_pieces


@pytest.fixture(scope="session")
def byte_bpe():
    """Every byte is in it, and the words with the blank before them."""
    return train_byte_bpe((f"{word} {' '.join(WORDS)}" for word in WORDS), 285)


@pytest.fixture(scope="session")
def word_pieces(tmp_path_factory):
    return load_tokenizer(write_word_pieces(tmp_path_factory.mktemp("word_pieces")))


@pytest.fixture(scope="session", params=["byte_bpe", "unigram", "word_pieces"])
def tokenizer(request, byte_bpe, word_pieces, tmp_path_factory):
    if request.param == "unigram":
        return load_tokenizer(write_unigram(tmp_path_factory.mktemp("unigram")))
    return byte_bpe if request.param == "byte_bpe" else word_pieces
