import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from roberta_jax.data import words
from roberta_jax.data.words import LAST_CHARACTER, WordEncoder


def known_characters():
    every = map(chr, range(LAST_CHARACTER + 1))
    return [character for character in every if unicodedata.category(character) != "Cn"]


def cuts(text):
    """Where GPT-2's pre-tokenizer of the tokenizers library cuts a text."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return [text[first:last] for _, (first, last) in pieces]


def test_every_known_character_is_cut_as_the_tokenizer_cuts_it():
    texts = [f"a{c}1 {c}a{c}{c} {c}1{c}\n{c}! {c} " for c in known_characters()]
    assert [text for text in texts if words._WORD.findall(text) != cuts(text)] == []
    assert len(texts) > 11_000


@given(st.text(st.sampled_from("ab'’stremvld \n\té1²_.\x1c\u2003"), max_size=40))
def test_any_mixture_is_cut_as_the_tokenizer_cuts_it(tokenizer, text):
    assert words._WORD.findall(text) == cuts(text)
    encoder = WordEncoder(tokenizer.encode_batch)
    assert encoder.encode(text).tolist() == tokenizer.encode(text)
    assert encoder.encode(text).tolist() == tokenizer.encode(text)  # From memory.


def test_contractions_are_cut_in_lower_case_only():
    assert words._WORD.findall("I'd we'll it's I'm don't you've they're IT'S") == [
        *("I", "'d", " we", "'ll", " it", "'s", " I", "'m", " don", "'t", " you", "'ve"),
        *(" they", "'re", " IT", "'", "S"),
    ]


def test_other_characters_are_left_to_the_tokenizer(tokenizer):
    encoder = WordEncoder(tokenizer.encode_batch)
    assert encoder.knows("a é\u0950\n") and encoder.knows("")
    assert not encoder.knows("日本")
    assert not encoder.knows("a 🙂")
    # Unassigned: its kind may change with the next Unicode.
    assert not encoder.knows("\u0378")
    assert not encoder.knows(chr(sys.maxunicode))


def test_memory_is_bounded(tokenizer, monkeypatch):
    monkeypatch.setattr(words, "MOST_BYTES", 2_000)
    encoder = WordEncoder(tokenizer.encode_batch)
    text = " ".join(f"word{i}" for i in range(100))
    for _ in range(3):
        assert encoder.encode(text).tolist() == tokenizer.encode(text)
        assert encoder.encode("x y z").tolist() == tokenizer.encode("x y z")
    assert len(encoder._ids_of_word) <= 210
