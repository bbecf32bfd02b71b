import itertools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from roberta_jax.data import word_memory, words
from roberta_jax.data.words import LAST_CHARACTER, WordEncoder, word_begins


def known_characters():
    return list(map(chr, range(LAST_CHARACTER + 1)))


def cut(text):
    begins = word_begins(np.frombuffer(text.encode("utf-16-le"), np.uint16)).tolist()
    return [text[a:b] for a, b in itertools.pairwise([*begins, len(text)])]


def cuts(text):
    """Where GPT-2's pre-tokenizer of the tokenizers library cuts a text."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return [text[first:last] for _, (first, last) in pieces]


def test_every_known_character_is_cut_as_the_tokenizer_cuts_it():
    texts = [f"a{c}1 {c}a{c}{c} {c}1{c}\n{c}! {c} " for c in known_characters()]
    assert [text for text in texts if cut(text) != cuts(text)] == []
    assert len(texts) > 11_000


@given(st.text(st.sampled_from("ab'’stremvld \n\té1²_.\x1c\u2003"), max_size=40))
def test_any_mixture_is_cut_as_the_tokenizer_cuts_it(tokenizer, text):
    assert cut(text) == cuts(text)
    encoder = WordEncoder(tokenizer.encode_batch)
    assert encoder.encode(text).tolist() == tokenizer.encode(text)
    assert encoder.encode(text).tolist() == tokenizer.encode(text)  # From memory.


def test_contractions_are_cut_in_lower_case_only():
    assert cut("I'd we'll it's I'm don't you've they're IT'S") == [
        *("I", "'d", " we", "'ll", " it", "'s", " I", "'m", " don", "'t", " you", "'ve"),
        *(" they", "'re", " IT", "'", "S"),
    ]


def test_other_characters_are_left_to_the_tokenizer(tokenizer):
    encoder = WordEncoder(tokenizer.encode_batch)
    assert encoder.knows("a é\u0950\n") and encoder.knows("")
    assert not encoder.knows("日本")
    assert not encoder.knows("a 🙂")
    assert not encoder.knows(chr(sys.maxunicode))


def test_words_that_share_slots_are_told_apart(tokenizer, monkeypatch):
    monkeypatch.setattr(word_memory, "_FACTORS", np.zeros(4, np.uint64))
    encoder = WordEncoder(tokenizer.encode_batch)
    text = " ".join(f"word{i} a\0 a {'x' * i}" for i in range(30))
    for _ in range(2):
        assert encoder.encode(text).tolist() == tokenizer.encode(text)


@pytest.mark.parametrize("length", [3, 4, 5, 8, 12, 15, 16, 17, 64, 65, 1000])
def test_words_of_any_length(tokenizer, length):
    encoder = WordEncoder(tokenizer.encode_batch)
    words_of_length = ["a" * length, "a" * (length - 1) + "b", "b" + "a" * (length - 1)]
    text = "\n".join([*words_of_length, *words_of_length[::-1], "a", ""])
    for _ in range(2):
        assert encoder.encode(text).tolist() == tokenizer.encode(text)


def test_a_word_is_encoded_once(tokenizer):
    seen = []

    def encode_batch(texts):
        seen.extend(texts)
        return tokenizer.encode_batch(texts)

    encoder = WordEncoder(encode_batch)
    text = " ".join(f"word{i % 5000} {'long' * 5}{i % 70}" for i in range(20_000))
    for _ in range(2):
        assert encoder.encode(text).tolist() == tokenizer.encode(text)
    assert len(seen) == len(set(seen))


def test_memory_is_bounded(tokenizer, monkeypatch):
    empty = WordEncoder(tokenizer.encode_batch)._memory.bytes
    monkeypatch.setattr(words, "MOST_BYTES", empty + 2_000)
    encoder = WordEncoder(tokenizer.encode_batch)
    text = " ".join(f"word{i} {'long' * 5}{i}" for i in range(100))
    for i in range(20):
        assert encoder.encode(f"{text}{i}").tolist() == tokenizer.encode(f"{text}{i}")
        assert encoder.encode("x y z").tolist() == tokenizer.encode("x y z")
        assert len(encoder._memory) < 800
        assert len(encoder._long) < 250


def test_long_words_are_forgotten_too(tokenizer, monkeypatch):
    monkeypatch.setattr(words, "MOST_LONG_WORDS", 50)
    encoder = WordEncoder(tokenizer.encode_batch)
    for i in range(200):
        text = f"{'long' * 5}{i} {'longer' * 20}{i}"
        assert encoder.encode(text).tolist() == tokenizer.encode(text)
    assert len(encoder._long) <= 51
