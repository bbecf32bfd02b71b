import pytest

from roberta_jax.data.sentences import splitter
from roberta_jax.errors import UserError


def test_a_line_is_a_sentence():
    assert splitter("line")("  One. Two. \r\n") == ["One. Two."]
    assert splitter("line")(" \t\n") == []


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said: "Go." Then he went.', ['He said: "Go."', "Then he went."]),
        ("(It rained.) “Go!” she said.", ["(It rained.)", "“Go!” she said."]),
        ("It cost 3.5 dollars, e.g. here.", ["It cost 3.5 dollars, e.g. here."]),
        ("In 1815. 20 men came.", ["In 1815.", "20 men came."]),
        ("Why? élan. Élan.", ["Why? élan.", "Élan."]),
        ("One.Two", ["One.Two"]),
        ("", []),
    ],
)
def test_punctuation_before_a_capital_ends_a_sentence(line, sentences):
    assert splitter("punctuation")(line) == sentences


def test_nothing_but_white_space_is_lost():
    line = ' A "b." C (d!) E...  F? 1. G\u2003H. I '
    sentences = splitter("punctuation")(line)
    assert "".join("".join(sentences).split()) == "".join(line.split())
    assert all(sentence == sentence.strip() for sentence in sentences)


def test_an_unknown_splitter_is_refused():
    with pytest.raises(UserError, match="line, punctuation"):
        splitter("word")
