"""Vocabularies that come as tokenizer.json."""

import json
import pickle

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from roberta_jax.data.byte_bpe import BYTE_OF_CHARACTER, train_byte_bpe
from roberta_jax.data.json_tokenizer import JsonTokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import UserError

WORDS = ("the", "old", "river", "stone", "bridge", "wind")


def write_unigram(folder):
    """A folder as XLM-RoBERTa has it: special ids of RoBERTa, unigrams with a mark for blanks."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), "r", "s", "."]
    pieces = [(token, -float(number + 1)) for number, token in enumerate(tokens)]
    pieces.append(("<mask>", 0.0))
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    special = [tokenizers.AddedToken(token, normalized=False) for token in tokens[:4]]
    tokenizer.add_special_tokens(special)
    tokenizer.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, normalized=False)])
    names = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return _write(folder, tokenizer, dict(zip(ROLES, names, strict=True)))


def write_word_pieces(folder):
    """A folder as BERT has it: lower case, ## before what goes on with a word."""
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokens += ["##s", "##r", "r", "s", ".", ","]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 3), ("[SEP]", 4)],
    )
    names = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
    tokenizer.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in names])
    return _write(folder, tokenizer, dict(zip(ROLES, names, strict=True)))


ROLES = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")


def _write(folder, tokenizer, roles):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(roles))
    return folder


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    return load_tokenizer(write_unigram(tmp_path_factory.mktemp("unigram")))


@pytest.fixture(scope="module")
def word_pieces(tmp_path_factory):
    return load_tokenizer(write_word_pieces(tmp_path_factory.mktemp("word_pieces")))


def test_special_ids_have_the_role_that_the_files_give_them(unigram, word_pieces):
    assert (unigram.kind, word_pieces.kind) == ("unigram", "wordpiece")
    ids = [(t.bos_id, t.pad_id, t.eos_id, t.unk_id, t.mask_id) for t in (unigram, word_pieces)]
    assert ids == [(0, 1, 2, 3, 14), (3, 0, 4, 2, 5)]
    assert unigram.special_ids == (0, 1, 2, 3, 14)
    assert word_pieces.special_ids == (0, 1, 2, 3, 4, 5)  # [unused0] stands for no text.
    assert (unigram.mask_token, word_pieces.mask_token) == ("<mask>", "[MASK]")


def test_pairs_are_roberta_s_or_bert_s(unigram, word_pieces):
    assert unigram.row([7], [8, 9]) == [0, 7, 2, 2, 8, 9, 2]
    assert word_pieces.row([7], [8, 9]) == [3, 7, 4, 8, 9, 4]
    assert word_pieces.row([7]) == [3, 7, 4]


def test_names_of_special_tokens_in_raw_text_are_text(unigram, word_pieces):
    for tokenizer in (unigram, word_pieces):
        for text in ("the <mask> river", "</s>", "[MASK] [SEP] old", "<s>"):
            assert not set(tokenizer.encode(text)) & (
                set(tokenizer.special_ids) - {tokenizer.unk_id}
            )


def test_masks_are_found_where_they_are_asked_for(unigram, word_pieces):
    assert unigram.encode_with_masks("the <mask> river") == [5, 14, 7]
    assert word_pieces.encode_with_masks("The [MASK] rivers") == [6, 5, 8, 12]


def test_sentences_are_encoded_alone(unigram):
    groups = [["the river", "old stone."], [], ["wind"]]
    found = unigram.encode_sentences(groups)
    assert [ids.tolist() for ids in found] == [
        [i for sentence in group for i in [*unigram.encode(sentence), 2]] for group in groups
    ]
    assert all(ids.dtype == np.uint32 for ids in found)


def test_sentences_of_running_text_keep_the_blank_between_them(
    unigram, word_pieces, tokenizer, tmp_path
):
    groups = [["the river", "wind"], [], ["old"], ["\u6c34\u3002", "\u98a8"]]
    for other in (unigram, word_pieces):  # Here every text begins with a blank, or none does.
        plain, running = (other.encode_sentences(groups, blank_between=b) for b in (False, True))
        assert [ids.tolist() for ids in plain] == [ids.tolist() for ids in running]
    byte_level = with_added_tokens(tmp_path, tokenizer, "<user>")
    found = byte_level.encode_sentences(groups, blank_between=True)
    wanted = tokenizer.encode_sentences(groups, blank_between=True)
    assert isinstance(byte_level, JsonTokenizer)
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in wanted]
    assert found[0].tolist() != tokenizer.encode_sentences(groups)[0].tolist()


def test_pieces_have_the_blank_before_a_word(unigram, word_pieces):
    assert unigram.pieces()[5:13] == [*(f" {word}".encode() for word in WORDS), b"r", b"s"]
    assert word_pieces.pieces()[5:7] == [b"[MASK]", b" the"]
    assert word_pieces.pieces()[12:15] == [b"s", b"r", b" r"]
    assert unigram.token_text(5) == " the" and unigram.token_text(14) == "<mask>"
    assert word_pieces.decode(word_pieces.encode("The rivers.")) == "the rivers."
    assert unigram.decode([0, 5, 7, 2]) == "the river"


@given(st.lists(st.sampled_from([*WORDS, " ", "\u3000", "Ⅷ", "é", "."]), max_size=12))
def test_offsets_are_places_in_the_original_text(unigram, words):
    text = " ".join(words)
    ids, offsets = unigram.encode_with_offsets(text)
    assert ids == unigram.encode(text) and len(ids) == len(offsets)
    for token_id, (begin, end) in zip(ids, offsets, strict=True):
        piece = unigram.token_text(token_id).strip()
        if piece in WORDS:
            assert text[begin:end] == piece


def test_a_saved_tokenizer_loads_as_itself(unigram, word_pieces, tmp_path):
    for number, tokenizer in enumerate((unigram, word_pieces)):
        tokenizer.save(tmp_path / str(number))
        loaded = load_tokenizer(tmp_path / str(number))
        pickled = pickle.loads(pickle.dumps(tokenizer))
        assert tokenizer.fingerprint == loaded.fingerprint == pickled.fingerprint
        assert loaded.special_ids == tokenizer.special_ids
    assert unigram.fingerprint != word_pieces.fingerprint


def test_byte_level_bpe_is_recognized(documents, tmp_path):
    wanted = train_byte_bpe(("\n".join(document) for document in documents), 400)
    wanted.save(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    found = load_tokenizer(tmp_path)
    assert found.fingerprint == wanted.fingerprint and found.kind == "byte_bpe"
    # With a blank before the first word, it is another tokenizer.
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    path.write_text(json.dumps(content))
    other = load_tokenizer(tmp_path)
    assert other.kind == "bpe" and other.encode("river") == wanted.encode(" river")
    assert other.special_ids == wanted.special_ids and other.mask_id == wanted.mask_id
    assert other.pieces() == wanted.pieces()
    assert other.token_text(other.encode("river")[0]).startswith(" ")
    assert len(BYTE_OF_CHARACTER) == 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("3"), "damaged"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("null"), "damaged"),
        (lambda folder: (folder / "tokenizer.json").write_bytes(b"\xff"), "cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer: a folder with"),
    ],
)
def test_a_damaged_folder_is_one_paragraph(tmp_path, change, message):
    change(write_unigram(tmp_path))
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path)


def test_names_that_are_no_names_are_passed_over(tmp_path):
    write_unigram(tmp_path)
    roles = {"mask_token": 3, "pad_token": {"x": 1}, "cls_token": {"content": "<s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(roles))
    assert load_tokenizer(tmp_path).mask_id == 14


def test_byte_level_bpe_with_other_special_ids_is_read_from_its_whole_description(tmp_path):
    """Trainers of transformers put <mask> at 4, right behind the other special tokens."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *BYTE_OF_CHARACTER, "Ġr", "iv"]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, [("Ġ", "r"), ("i", "v")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(token, normalized=False) for token in tokens[:5]]
    )
    _write(tmp_path, tokenizer, {})
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ r\ni v\n")
    found = load_tokenizer(tmp_path)
    assert (found.kind, found.mask_id, found.special_ids) == ("bpe", 4, (0, 1, 2, 3, 4))
    assert [found.token_text(i) for i in found.encode("a river")] == ["a", " r", "iv", "e", "r"]
    assert found.double_separator
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="<mask> is 4 and must be 262"):
        load_tokenizer(tmp_path)


def with_added_tokens(folder, tokenizer, *added):
    """A tokenizer of ours with more entries behind <mask>, as transformers adds them."""
    tokenizer.save(folder)
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole.add_tokens(list(added))
    whole.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def test_added_tokens_keep_their_ids_and_all_others_their_pieces(tokenizer, tmp_path):
    found = with_added_tokens(tmp_path, tokenizer, "covid19", "<user>")
    assert found.vocab_size == 402
    assert found.encode("covid19")[0] == 400 and 401 in found.encode("an <user> here")
    assert found.pieces()[:400] == tokenizer.pieces()
    text = "The old\u00a0river\u3000 carried  café."
    assert found.encode_with_offsets(text) == tokenizer.encode_with_offsets(text)
    # Two files do not say what the third adds.
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "added_tokens.json").write_text('{"covid19": 400, "<user>": 401}')
    with pytest.raises(UserError, match="added_tokens.json has covid19, <user>. Of any tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "added_tokens.json").write_text("{}")
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    with pytest.raises(UserError, match="tokenizer_config.json has add_prefix_space"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_without_a_mask_is_refused(tmp_path):
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    _write(tmp_path, tokenizer, {})
    with pytest.raises(UserError, match="has no bos token: none of <s>, \\[CLS\\] is among"):
        load_tokenizer(tmp_path)


def test_text_that_is_no_unicode_is_refused(unigram):
    with pytest.raises(UserError, match="not valid Unicode"):
        unigram.encode("\ud800")
    assert isinstance(unigram, JsonTokenizer)
