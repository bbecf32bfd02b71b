"""The ids are those of transformers' tokenizer built from the same files."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

transformers = pytest.importorskip("transformers")

from roberta_jax.data import char_bpe  # noqa: E402
from roberta_jax.data.byte_bpe import train_byte_bpe  # noqa: E402
from roberta_jax.data.sentencepiece_model import read_sentencepiece  # noqa: E402
from roberta_jax.data.tokenizer_folder import load_tokenizer  # noqa: E402
from roberta_jax.errors import UserError  # noqa: E402
from tests.data.test_char_bpe import TEXT as SENTENCEPIECE_TEXT  # noqa: E402
from tests.data.test_json_tokenizer import write_unigram, write_word_pieces  # noqa: E402
from tests.data.test_sentencepiece_model import train as train_sentencepiece  # noqa: E402

pytestmark = pytest.mark.parity

SPECIAL_NAMES = ("<s>", "</s>", "<pad>", "<unk>", "<mask>")
# Everything that UTF-8 can hold, and more of what is rarely met: controls, combining marks, right
# to left, emoji with joiners and skin tones, white space of all kinds, contractions.
PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(categories=["Cc", "Cf", "Zs", "Zl", "Zp"])),
    st.text(st.characters(categories=["Mn", "Mc", "Me"])),
    st.sampled_from(
        [" ", "  ", "\t", "\r\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u2028", "\x1c", "\x85"]
        + ["'s", "'S", "’s", "'ll", "don't", "n't", "''", "1,000.50", "½", "²", "Ⅷ", "٣٤"]
        + [
            "🙂",
            "👩‍👩‍👧‍👦",
            "👍🏽",
            "🇩🇪",
            "e\u0301",
            "שלום",
            "مرحبا",
            "नमस्ते",
            "日本語",
            "한국어",
            "İ",
        ]
    ),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join).filter(lambda text: not _names_special(text))


def _names_special(text):
    return any(name in text for name in SPECIAL_NAMES)


@pytest.fixture(scope="module")
def folder(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_byte_bpe(("\n".join(document) for document in documents), 400).save(folder)
    return folder


@pytest.fixture(scope="module")
def mine(folder):
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    return transformers.RobertaTokenizerFast.from_pretrained(folder)


@given(TEXTS)
@settings(max_examples=500)
@example("")
@example("Hello world!")
@example("\u0000\u0001 \x7f")
@example("a" * 1000)
def test_ids_of_any_text(mine, theirs, text):
    assert theirs(text)["input_ids"] == mine.row(mine.encode(text))


@given(TEXTS, TEXTS.filter(bool))  # transformers takes an empty second text for none.
def test_ids_of_any_pair(mine, theirs, first, second):
    row = mine.row(mine.encode(first), mine.encode(second))
    assert theirs(first, second)["input_ids"] == row
    begin = [0, *mine.encode(first), 2, 2]
    assert row[: len(begin)] == begin and row[-1] == 2


@given(TEXTS)
@settings(max_examples=300)
@example("The old  river,\n carried 🙂 e\u0301")
def test_offsets_of_any_text(mine, theirs, text):
    ids, offsets = mine.encode_with_offsets(text)
    wanted = theirs(text, return_offsets_mapping=True, add_special_tokens=False)
    assert (ids, offsets) == (wanted["input_ids"], wanted["offset_mapping"])


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_ids_of_any_text_with_masks(mine, theirs, parts):
    text = "<mask>".join(parts)
    assert theirs(text)["input_ids"] == mine.row(mine.encode_with_masks(text))


def test_a_hundred_thousand_characters_without_a_blank(mine, theirs):
    text = "".join(chr(0x4E00 + 7 * number % 2000) + "abc"[number % 3] for number in range(50_000))
    assert theirs(text, verbose=False)["input_ids"] == mine.row(mine.encode(text))


def test_half_a_surrogate_pair_is_refused_by_both(mine, theirs):
    for text in ("\ud800", "a\udfff b"):
        with pytest.raises(UserError, match="not valid Unicode"):
            mine.encode_with_offsets(text)
        with pytest.raises((UnicodeError, TypeError, ValueError)):
            theirs(text)


def test_a_folder_that_transformers_wrote_is_the_same_tokenizer(mine, theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    again = load_tokenizer(tmp_path)
    assert again.kind == "byte_bpe" and again.fingerprint == mine.fingerprint


@pytest.mark.parametrize(
    ("write", "name"),
    [(write_unigram, "XLMRobertaTokenizer"), (write_word_pieces, "BertTokenizer")],
)
@given(text=TEXTS.filter(lambda text: "[" not in text))
@settings(max_examples=100)
def test_other_vocabularies(tmp_path_factory, write, name, text):
    folder = tmp_path_factory.getbasetemp() / name
    if not folder.exists():
        write(folder)
        settings_file = folder / "tokenizer_config.json"
        values = json.loads(settings_file.read_text())
        settings_file.write_text(json.dumps({**values, "tokenizer_class": name}))
    mine = load_tokenizer(folder)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert theirs(text, add_special_tokens=False)["input_ids"] == mine.encode(text)
    assert theirs(text)["input_ids"] == mine.row(mine.encode(text))
    text += "."
    assert theirs(text, text)["input_ids"] == mine.row(mine.encode(text), mine.encode(text))
    masked = f"stone {mine.mask_token} {text}"
    assert theirs(masked)["input_ids"] == mine.row(mine.encode_with_masks(masked))


@pytest.fixture(scope="module", params=["char_bpe", "unigram"])
def through_sentencepiece(request, tmp_path_factory):
    """(ours, transformers') of a vocabulary trained or imported through sentencepiece."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "char_bpe":
        char_bpe.train_char_bpe(SENTENCEPIECE_TEXT, 300).save(folder)
    else:
        train_sentencepiece(folder / "x.model")
        read_sentencepiece(folder / "x.model").save(folder)
    return load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)


@given(first=TEXTS, second=TEXTS.filter(bool))
@settings(max_examples=300)
@example(first="The OLD  rivér,", second=" Straße")
def test_ids_of_vocabularies_through_sentencepiece(through_sentencepiece, first, second):
    mine, theirs = through_sentencepiece
    ids, others = mine.encode(first), mine.encode(second)
    assert theirs(first)["input_ids"] == mine.row(ids)
    assert theirs(first, second)["input_ids"] == mine.row(ids, others)
    masked = f"{first} <mask>{second}"
    assert theirs(masked)["input_ids"] == mine.row(mine.encode_with_masks(masked))


def test_vocabularies_through_sentencepiece_keep_their_special_tokens(
    through_sentencepiece, tmp_path
):
    mine, theirs = through_sentencepiece
    assert theirs.is_fast and theirs.mask_token_id == mine.mask_id == len(theirs) - 1
    assert (theirs.cls_token_id, theirs.pad_token_id, theirs.unk_token_id) == (0, 1, 3)
    assert theirs.sep_token_id == theirs.eos_token_id == 2
    ids = mine.encode("The old bridge, 1,000.50")
    assert theirs.decode(ids) == mine.decode(ids)
    theirs.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == mine.fingerprint
