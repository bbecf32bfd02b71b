"""Character-level BPE: the ids are sentencepiece's."""

import itertools
import pickle
import subprocess
import sys

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roberta_jax.data import char_bpe, sentencepiece_model
from roberta_jax.data.char_bpe import NORMALIZATIONS, train_char_bpe
from roberta_jax.data.json_tokenizer import BLANK
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import UserError

TEXT = [
    "The old river ran under the old bridge, and the wind carried the rain (slowly) away.",
    "Ein altes Haus, eine Straße, große Flüsse: 1,000.50 Äpfel! <mask> <s> </s> [x]",
    "naïve café déjà vu — “quoted” … ½ Ⅷ 한국어 텍스트 日本語のテキスト مرحبا بالعالم שלום नमस्ते",
    "........ ----- aaaaaa abababab ….. ana banana ananas 🙂 👩‍👩‍👧 tiếng Việt ồ",
    "ΣΑΣ σας Ωμέγα Привет мир İstanbul ＡＢＣ ～ ꭰꎀ",
] * 3
WORDS = " ".join(TEXT).split(" ")
# Vocabulary size 400 leaves some characters of hypothesis unknown, and few words whole.
SIZE = 400
ANY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(categories=["Cc", "Cf", "Zs", "Zl", "Zp"])),
    st.text(st.characters(categories=["Mn", "Mc", "Me"])),
    st.sampled_from(WORDS),
    st.text(st.sampled_from(" .-abn▁\u0301\u0323E")),
)
ANY_TEXTS = st.lists(ANY, max_size=8).map("".join)
# Where `tokenizers` and sentencepiece normalize alike: see `normalizer_of`.
MARKS = st.characters(exclude_categories=["Cs", "Mn", "Mc", "Me"], exclude_characters="İ")
COMMON_TEXTS = st.lists(
    st.one_of(
        st.text(MARKS),
        st.sampled_from([word for word in WORDS if "İ" not in word]),
        st.sampled_from(["E\u0301", "e\u0302\u0301", "Q\u0301", "\u1112\u1161\u11ab", "X\u0308"]),
        st.text(st.sampled_from(" .-abn▁\t\u3000\u200b")),
    ),
    max_size=8,
).map(" ".join)


@pytest.fixture(scope="module", params=NORMALIZATIONS)
def trained(request):
    """(tokenizer, sentencepiece with the rule, sentencepiece without, the rule)."""
    rule = char_bpe.rule_bytes(request.param)
    parsed = sentencepiece_model.parse(rule)
    learned = char_bpe.learn(char_bpe.count_words(TEXT, parsed), SIZE)
    return (
        train_char_bpe(TEXT, SIZE, request.param),
        sentencepiece.SentencePieceProcessor(model_proto=learned + rule),
        sentencepiece.SentencePieceProcessor(model_proto=learned),
        sentencepiece_model.normalizer_of(parsed),
    )


@pytest.fixture(scope="module")
def uncased():
    return train_char_bpe(TEXT, SIZE)


@given(COMMON_TEXTS)
@settings(max_examples=400)
@example("")
@example(" ")
@example("▁")
@example("a▁▁")
@example("  The\tOLD\u00a0river\n runs  ")
@example("Hello <mask> <s></s> <unk>")
def test_ids_are_those_of_sentencepiece(trained, text):
    tokenizer, with_rule, _, _ = trained
    assert tokenizer.encode(text) == with_rule.encode(text)


@given(ANY_TEXTS)
@settings(max_examples=400)
@example("ⓐ\u0301 İ a\u0301\u0323")
def test_ids_of_normalized_text_are_those_of_sentencepiece(trained, text):
    tokenizer, _, without_rule, normalizer = trained
    normal = normalizer.normalize_str(text)
    assert tokenizer.encode(text) == without_rule.encode(normal.removeprefix(BLANK))


def test_normalization_of_every_character_is_that_of_sentencepiece(trained):
    _, with_rule, _, normalizer = trained
    texts = [f"x {chr(code)}y" for code in range(1, 0x30000) if not 0xD800 <= code < 0xE000]
    found = [text for text in texts if normalizer.normalize_str(text) != with_rule.normalize(text)]
    assert set(found) <= {"x İy"}


@pytest.mark.parametrize(
    ("normalization", "text", "wanted"),
    [
        ("nmt_nfkc_cf", "\u3000Die STRASSE\t Straße ", "▁die▁strasse▁straße"),
        ("nmt_nfkc_cf", "E\u0301cole Q\u0301 ﬁ", "▁école▁q\u0301▁fi"),
        ("nmt_nfkc", "Ｅcole\u0007 x²", "▁Ecole▁x2"),
        ("identity", "Ｅ  x² ", "▁Ｅ▁x²"),
    ],
)
def test_text_is_cleaned_by_the_rule(normalization, text, wanted):
    rule = sentencepiece_model.parse(char_bpe.rule_bytes(normalization))
    assert sentencepiece_model.normalizer_of(rule).normalize_str(text) == wanted


def test_the_layout_is_that_of_the_project(uncased):
    t = uncased
    assert (t.bos_id, t.pad_id, t.eos_id, t.unk_id, t.mask_id) == (0, 1, 2, 3, SIZE - 1)
    assert t.vocab_size == SIZE and t.special_ids == (0, 1, 2, 3, SIZE - 1)
    assert t.row([5], [6]) == [0, 5, 2, 2, 6, 2]
    assert t.pieces()[0] == b"<s>" and t.mask_token == "<mask>"
    assert t.encode_with_masks("the <mask> river") == [
        *t.encode("the"),
        SIZE - 1,
        *t.encode("river"),
    ]


def test_merges_by_hand():
    """ "aa" is the most frequent pair; "▁aa" follows. Characters come behind, by frequency."""
    tokenizer = train_char_bpe(["aa aa aa aa b"], 10)
    assert [tokenizer.token_text(i) for i in range(10)] == [
        *("<s>", "<pad>", "</s>", "<unk>", "aa", " aa", "a", " ", "b", "<mask>"),
    ]
    assert tokenizer.encode("aa AAA b") == [5, 5, 6, 7, 8]
    assert tokenizer.encode("c cc") == [7, 3, 7, 3]  # A run of unknown characters is one <unk>.


def test_names_of_special_tokens_in_a_text_are_text(uncased):
    for name in ("<mask>", "<s>", "</s>", "<pad>"):
        ids = uncased.encode(f"the {name} river")
        assert not set(ids) & {0, 1, 2, SIZE - 1}
        assert uncased.decode(ids) == f"the {name} river"


def test_offsets_are_places_in_the_original_text(uncased):
    text = "The  Straße, The"
    ids, offsets = uncased.encode_with_offsets(text)
    assert ids == uncased.encode(text)
    assert [text[begin:end] for begin, end in offsets][0] == "The"
    assert offsets[-1] == (13, 16)


@given(st.lists(st.lists(ANY_TEXTS, max_size=3), max_size=3), st.booleans())
def test_sentences_are_encoded_alone_from_memory_or_not(trained, groups, blank_between):
    tokenizer = trained[0]
    found = tokenizer.encode_sentences(groups, blank_between=blank_between)
    assert tokenizer._words is not None
    assert [ids.tolist() for ids in found] == [
        [i for text in group for i in [*tokenizer.encode(text), 2]] for group in groups
    ]


def test_saved_loaded_and_pickled_it_is_the_same(uncased, tmp_path):
    uncased.save(tmp_path)
    for other in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(uncased))):
        assert other.fingerprint == uncased.fingerprint
        assert other.encode(TEXT[2]) == uncased.encode(TEXT[2])


def test_the_vocabulary_depends_on_the_text_only(uncased):
    rule = sentencepiece_model.parse(char_bpe.rule_bytes("nmt_nfkc_cf"))
    words = char_bpe.count_words(reversed(TEXT), rule)
    models = [sentencepiece_model.parse(char_bpe.learn(words, SIZE, n)) for n in (1, 4)]
    assert models[0] == models[1]
    assert train_char_bpe(list(reversed(TEXT)), SIZE).fingerprint == uncased.fingerprint
    # Golden: another version of sentencepiece or of this code changes every model's vocabulary.
    assert uncased.fingerprint == GOLDEN_FINGERPRINT


GOLDEN_FINGERPRINT = "de4983e2f8552a78"


def test_no_text_is_lost_in_training():
    long_line = " ".join(["zebra"] * 5000)  # sentencepiece's limit is 4192 bytes, by default.
    marked = "quagga\u2585quagga quagga\0\tquagga"  # It leaves out lines with its own signs.
    unbroken = "okapi" * 250_000  # The limit that it is given is a MiB.
    rule = sentencepiece_model.parse(char_bpe.rule_bytes("identity"))
    words = char_bpe.count_words([f"{long_line}\n{marked}", unbroken], rule)
    assert words["zebra"] == 5000 and words["quagga"] == 4
    assert sum(len(word) * n for word, n in words.items() if "okapi" in word) == 1_250_000
    found = train_char_bpe([long_line, marked], 25, "identity")
    assert [len(found.encode(word)) for word in ("zebra", "quagga")] == [1, 1]
    assert 3 not in train_char_bpe([unbroken], 20, "identity").encode("okapi")
    # It would leave out the names of its special pieces, and "/" occurs in one only.
    assert 3 not in train_char_bpe(["a </s> b <unk> <pad>"], 25).encode("a</s>")


def test_sizes_that_cannot_be_reached_are_one_paragraph(capfd):
    text = ["hello help world"]
    with pytest.raises(UserError, match="entries only. Give .* of at most (\\d+)") as error:
        train_char_bpe(text, 1000)
    most = int(str(error.value).split()[-1].strip("."))
    assert train_char_bpe(text, most).vocab_size == most
    with pytest.raises(UserError, match="at least (\\d+): the characters") as error:
        train_char_bpe(text, 3)
    least = int(str(error.value).split("at least ")[1].split(":")[0])
    # 8 letters and the blank, behind 4 special tokens and before <mask>.
    assert least == 14 and train_char_bpe(text, least).vocab_size == least
    with pytest.raises(UserError, match="no words"):
        train_char_bpe([" \u200b\n"], 100)
    with pytest.raises(UserError, match="must be one of nmt_nfkc_cf, nmt_nfkc, identity"):
        train_char_bpe(text, 20, "nfd")
    assert capfd.readouterr() == ("", "")


def test_rare_characters_leave_their_entries_to_words():
    text = ["abc " * 150_000, "".join(map(chr, range(0x4E00, 0x4E00 + 3)))]
    tokenizer = train_char_bpe(text, 12)
    assert tokenizer.encode("\u4e00")[-1] == 3 and 3 not in tokenizer.encode("abc cab")


def test_sentencepiece_is_loaded_for_training_only():
    code = (
        "import sys, roberta_jax.cli.tokenizer, roberta_jax.data.tokenizer_folder;"
        "print('sentencepiece' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_pieces_that_overlap_themselves_are_joined_from_the_left(trained):
    """The one place where merge rules, each with a rank of its own, might not say it all."""
    tokenizer, with_rule, _, _ = trained
    for letters in itertools.product("ab", repeat=9):
        assert tokenizer.encode("".join(letters)) == with_rule.encode("".join(letters))
    for length in range(60):
        for sign in ".-a":
            assert tokenizer.encode(sign * length) == with_rule.encode(sign * length)
