import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("language", "line", "sentences"),
    [
        (
            "en",
            'Mr. Smith met Dr. Jones at 5 p.m. on Jan. 5. "Why?" he asked. It cost $3.50.',
            [
                "Mr. Smith met Dr. Jones at 5 p.m. on Jan. 5.",
                '"Why?" he asked.',
                "It cost $3.50.",
            ],
        ),
        (
            "ko",
            "안녕하세요. 오늘 날씨가 좋네요! 3.5점입니다.",
            ["안녕하세요.", "오늘 날씨가 좋네요!", "3.5점입니다."],
        ),
        (
            "ar",
            "ذهب الولد إلى المدرسة. هل عاد؟ نعم، عاد!",
            ["ذهب الولد إلى المدرسة.", "هل عاد؟", "نعم، عاد!"],
        ),
        (
            "zh",
            "他去了北京。你好吗？我很好！谢谢。",
            ["他去了北京。", "你好吗？", "我很好！", "谢谢。"],
        ),
    ],
)
def test_rules_of_a_language_end_sentences_in_any_script(language, line, sentences):
    assert splitter("rules", language)(f" {line}\r\n") == sentences


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))
    | st.text(st.sampled_from("aB 1.!?。？\"'”)؟।…\t\xa0\u3000\u2009é한中ن\u200f"), max_size=50),
    st.sampled_from(["en", "ko", "ar", "zh", "xx"]),
)
def test_rules_lose_nothing_but_white_space(line, language):
    sentences = splitter("rules", language)(line)
    assert "".join("".join(sentences).split()) == "".join(line.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@pytest.mark.parametrize("language", ["English", "", "e", "en_US"])
def test_a_language_is_a_code(language):
    with pytest.raises(UserError, match="a code such as en, ko or zh"):
        splitter("rules", language)


def test_blanks_of_any_kind_are_taken_for_blanks():
    assert splitter("rules")("Plan B\xa0. Then we\u3000go. Why?") == [
        "Plan B\xa0.",
        "Then we\u3000go.",
        "Why?",
    ]
