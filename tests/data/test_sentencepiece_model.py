"""Models of sentencepiece, imported: the ids are sentencepiece's, in XLM-RoBERTa's layout."""

import io
import json
import struct

import pytest
import sentencepiece
from hypothesis import example, given, settings

from roberta_jax.data.sentencepiece_model import (
    FILE_NAME,
    Piece,
    parse,
    read_sentencepiece,
)
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import UserError
from tests.data.test_char_bpe import COMMON_TEXTS, TEXT

LAYOUT = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}


def train(path, **settings):
    """Trains a small model into `path`; returns sentencepiece's processor."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        minloglevel=2,
        character_coverage=1.0,
        num_threads=1,
        hard_vocab_limit=settings.get("model_type") == "bpe",  # So few words give fewer unigrams.
        **{"vocab_size": 250, "model_type": "unigram", **settings},
    )
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


VARIANTS = {
    "unigram": {"normalization_rule_name": "nmt_nfkc"},  # As XLM-RoBERTa's.
    "unigram_cf": {"normalization_rule_name": "nmt_nfkc_cf"},
    "unigram_plain": {"normalization_rule_name": "identity"},
    "bpe": {"model_type": "bpe"},
    "bpe_layout": {"model_type": "bpe", **LAYOUT},
    "bpe_bytes": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 600},
    "bpe_blanks": {"model_type": "bpe", "remove_extra_whitespaces": False},
    "bpe_names": {"model_type": "bpe", "unk_piece": "<?>"},
    "bpe_no_prefix": {"model_type": "bpe", "add_dummy_prefix": False},
}


@pytest.fixture(scope="module", params=VARIANTS)
def imported(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / FILE_NAME
    theirs = train(path, **VARIANTS[request.param])
    return request.param, read_sentencepiece(path), theirs


def shifted(name, ids):
    """fairseq's ids: <unk> is 3, the pieces from 3 on are one further."""
    return ids if "layout" in name else [3 if i == 0 else i + 1 for i in ids]


@given(COMMON_TEXTS)
@settings(max_examples=300)
@example("Hello <s> <mask></s>")
@example("")
def test_ids_are_those_of_sentencepiece(imported, text):
    name, mine, theirs = imported
    found, wanted = mine.encode(text), shifted(name, theirs.encode(text))
    if mine.kind == "unigram":  # "...." + "..." and "..." + "...." have the same score.
        assert sorted(found) == sorted(wanted) and mine.decode(found) == mine.decode(wanted)
    if mine.kind == "bpe" or len(set(text)) > len(text) / 2:
        assert found == wanted


def test_the_layout_is_that_of_xlm_roberta(imported):
    name, mine, theirs = imported
    size = theirs.get_piece_size()
    assert mine.vocab_size == size + (1 if "layout" in name else 2)
    ids = (mine.bos_id, mine.pad_id, mine.eos_id, mine.unk_id, mine.mask_id)
    assert ids == (0, 1, 2, 3, mine.vocab_size - 1)
    assert mine.special_ids == ids
    assert mine.row([7], [8]) == [0, 7, 2, 2, 8, 2]
    first = 4 if "layout" in name else 3
    pieces = [theirs.id_to_piece(i) for i in range(first, size)]
    assert mine._tokens[4:-1] == pieces
    if "bytes" in name:
        assert mine.pieces()[4 + 0xC3] == b"\xc3"
        assert mine.decode(mine.encode("the ☃")) == "the ☃"


@given(COMMON_TEXTS)
@settings(max_examples=100)
def test_sentences_are_encoded_alone(imported, text):
    _, mine, _ = imported
    found = mine.encode_sentences([[text, "the river"], []])
    assert found[0].tolist() == [*mine.encode(text), 2, *mine.encode("the river"), 2]
    assert found[1].tolist() == []


def test_a_folder_with_the_model_alone_is_a_tokenizer(tmp_path):
    train(tmp_path / FILE_NAME)
    found = load_tokenizer(tmp_path)
    assert found.kind == "unigram"
    found.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == found.fingerprint
    for name, content in (
        ("config.json", {"model_type": "xlm-roberta"}),
        ("tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"}),
        ("tokenizer_config.json", {}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        assert load_tokenizer(tmp_path).fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", '{"model_type": "camembert"}', "has model_type camembert, whose ids are"),
        ("tokenizer_config.json", '{"tokenizer_class": "MBartTokenizer"}', "MBartTokenizer"),
        ("config.json", "{", "config.json is damaged"),
    ],
)
def test_other_layouts_are_refused(tmp_path, name, content, message):
    train(tmp_path / FILE_NAME)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "char", "vocab_size": 130}, "of the type char; unigram and bpe can"),
        ({"model_type": "bpe", "treat_whitespace_as_suffix": True}, "marks blanks in another way"),
        ({"user_defined_symbols": ["<user>"]}, "user-defined or unused pieces \\(<user>\\)"),
    ],
)
def test_what_tokenizer_json_cannot_say_is_refused(tmp_path, settings, message):
    train(tmp_path / "x.model", **settings)
    with pytest.raises(UserError, match=message):
        read_sentencepiece(tmp_path / "x.model")


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "x.model"
    with pytest.raises(UserError, match="cannot be read .No such file"):
        read_sentencepiece(path)
    train(path)
    whole = path.read_bytes()
    for data in (b"", b"version https://git-lfs", whole[:1000], b"\x0a", b"\x0b", b"\x0a\x02\x0a"):
        path.write_bytes(data)
        with pytest.raises(UserError, match="is no sentencepiece model, or a damaged one"):
            read_sentencepiece(path)


def test_a_message_by_hand():
    # Field 1, 12 bytes: its field 1 is "ab", field 2 the score -1.5, field 3 the type 4.
    piece = (
        b"\x0a\x0d" + b"\x0a\x02ab" + b"\x15" + struct.pack("<f", -1.5) + b"\x18\x04" + b"\x28\x07"
    )
    trainer = b"\x12\x02" + b"\x18\x02"  # Field 2: its field 3, the model type, is BPE.
    normalizer = b"\x1a\x08" + b"\x0a\x02id" + b"\x18\x00" + b"\x20\x00"
    model = parse(piece + b"\x0a\x03\x0a\x01c" + trainer + normalizer)
    assert model.pieces == (Piece("ab", -1.5, 4), Piece("c", 0.0, 1))
    assert (model.kind, model.normalization, model.character_map) == ("bpe", "id", b"")
    assert not model.add_blank and not model.collapse_blanks and model.escape_blanks
    # Messages one behind the other are one.
    again = parse(piece + trainer + normalizer + b"\x1a\x02\x18\x01")
    assert again.add_blank and again.normalization == "id"


def test_parts_agree_with_sentencepiece_s_own_reader(tmp_path):
    theirs = train(tmp_path / "x.model", normalization_rule_name="nmt_nfkc_cf")
    found = parse((tmp_path / "x.model").read_bytes())
    assert [piece.text for piece in found.pieces] == [
        theirs.id_to_piece(i) for i in range(theirs.get_piece_size())
    ]
    assert [piece.score for piece in found.pieces] == [
        theirs.get_score(i) for i in range(theirs.get_piece_size())
    ]
    assert found.normalization == "nmt_nfkc_cf" and len(found.character_map) > 200_000
