import json
import pickle
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.byte_bpe import BYTE_OF_CHARACTER, import_byte_bpe, train_byte_bpe
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import UserError


def roberta_like_files(folder, *, vocab_changes=(), madeup=3):
    """Files in the layout of roberta-base, with a few entries."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *BYTE_OF_CHARACTER, "he", "ll", "hell", "Ġw"]
    tokens += [f"madeupword{i:04d}" for i in range(madeup)] + ["<mask>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    for change in vocab_changes:
        change(vocab)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\nĠ w\n")
    return folder / "vocab.json", folder / "merges.txt"


def test_special_ids_are_those_of_roberta(tokenizer):
    assert tokenizer.vocab_size == 400
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert tokenizer.mask_id == 399
    assert tokenizer.special_ids == (0, 1, 2, 3, 399)


def test_the_same_text_gives_the_same_vocabulary(documents, tokenizer):
    again = train_byte_bpe(("\n".join(document) for document in documents), 400)
    assert again.fingerprint == tokenizer.fingerprint == "cbc9eb25e4044021"
    assert train_byte_bpe(documents[0] * 9, 270).fingerprint != tokenizer.fingerprint


@given(st.text())
def test_any_text_survives_encoding(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.special_ids)


@pytest.mark.parametrize("text", ["<mask>", "a <s> b</s>", "<pad><unk>", " <mask> <mask>"])
def test_special_names_in_raw_text_are_text(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.special_ids)
    assert tokenizer.decode(ids) == text


def test_batches_give_the_ids_of_single_texts(tokenizer):
    texts = ["The old river", "", " wind", "日本 and 🙂"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@given(
    st.lists(st.text().map(lambda text: text.replace("\n", " ").strip()).filter(bool), max_size=8)
)
def test_groups_of_sentences_give_the_ids_of_single_sentences(tokenizer, sentences):
    (group,) = tokenizer.encode_sentences([sentences])
    assert group.tolist() == [i for sentence in sentences for i in [*tokenizer.encode(sentence), 2]]


def test_mask_marks_take_the_blanks_before_them(tokenizer):
    ids = tokenizer.encode_with_masks("The old  <mask> over <mask>.<mask>")
    mask = tokenizer.mask_id
    expected = [*tokenizer.encode("The old"), mask, *tokenizer.encode(" over"), mask]
    assert ids == [*expected, *tokenizer.encode("."), mask]


def test_many_blanks_before_a_mask_take_no_time(tokenizer):
    began = time.process_time()
    ids = tokenizer.encode_with_masks("<mask>" + " " * 60_000 + "x<mask>")
    assert time.process_time() - began < 2  # A pattern that looks back takes half a minute.
    assert ids[0] == ids[-1] == tokenizer.mask_id
    assert tokenizer.decode(ids) == " " * 60_000 + "x"


def test_special_tokens_are_skipped_or_spelled(tokenizer):
    ids = [0, *tokenizer.encode("over"), tokenizer.mask_id, 2, 1]
    assert tokenizer.decode(ids) == "over"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<s>over<mask></s><pad>"
    assert tokenizer.token_text(tokenizer.mask_id) == "<mask>"
    assert tokenizer.token_text(tokenizer.encode("é")[0]) == "�"


@pytest.mark.parametrize("token_id", [-1, 400])
def test_ids_outside_the_vocabulary_are_refused(tokenizer, token_id):
    with pytest.raises(UserError, match="from 0 to 399"):
        tokenizer.decode([token_id])


def test_text_that_is_no_unicode_is_refused(tokenizer):
    with pytest.raises(UserError, match="not valid Unicode"):
        tokenizer.encode("\ud800")


def test_a_saved_tokenizer_loads_as_itself(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "new" / "folder")
    loaded = load_tokenizer(tmp_path / "new" / "folder")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode("The old river’s") == tokenizer.encode("The old river’s")
    assert pickle.loads(pickle.dumps(tokenizer)).fingerprint == tokenizer.fingerprint


def test_the_fingerprint_ignores_formatting(tokenizer_folder, tokenizer, tmp_path):
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    shuffled = dict(sorted(vocab.items()))
    (tmp_path / "vocab.json").write_text(json.dumps(shuffled, indent=3, ensure_ascii=True))
    merges = (tmp_path / "merges.txt").read_text().removeprefix("#version: 0.2\n")
    (tmp_path / "merges.txt").write_text(merges + "\n\n")
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


@pytest.mark.parity
def test_transformers_reads_the_folder_and_agrees(tokenizer, tokenizer_folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    assert (theirs.mask_token_id, theirs.pad_token_id, len(theirs)) == (399, 1, 400)
    for text in ("The old river", " wind", "a  <mask> over <mask>.", "日本 🙂\n\n’s 12", ""):
        expected = [0, *tokenizer.encode_with_masks(text), 2]
        assert theirs(text)["input_ids"] == expected
        assert theirs.decode(expected[1:-1]) == tokenizer.decode(
            expected[1:-1], skip_special_tokens=False
        )


def test_the_layout_of_roberta_base_is_imported(tmp_path):
    tokenizer = import_byte_bpe(*roberta_like_files(tmp_path))
    assert tokenizer.token_text(tokenizer.encode("hello world")[0]) == "hell"
    assert [tokenizer.token_text(i) for i in tokenizer.encode("hell wo")] == ["hell", " w", "o"]
    # The entries that only fill the vocabulary up stand for no text.
    assert tokenizer.special_ids == (0, 1, 2, 3, 264, 265, 266, 267)


def swap(first, second):
    def change(vocab):
        vocab[first], vocab[second] = vocab[second], vocab[first]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap("<pad>", "</s>"), "<pad> is 2 and must be 1, </s> is 1 and must be 2"),
        (swap("<mask>", "a"), "<mask> is .* and must be 267"),
        (lambda vocab: vocab.pop("<unk>"), "<unk> is missing and must be 3"),
        (lambda vocab: vocab.update({"a": 5}), "must be 0 to 267, each once"),
        (
            lambda vocab: vocab.update({"日本": vocab.pop("a")}),
            "1 of the 256 single bytes are miss",
        ),
        (
            lambda vocab: vocab.update({"xx": vocab.pop("hell")}),
            "'he' . 'll' has parts or a result",
        ),
        (lambda vocab: vocab.update({"he": "no"}), "gives every token its id"),
    ],
)
def test_a_vocabulary_of_another_layout_is_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        import_byte_bpe(*roberta_like_files(tmp_path, vocab_changes=[change]))


def test_missing_and_damaged_files_are_named(tmp_path, tokenizer_folder):
    with pytest.raises(UserError, match="has no tokenizer: a folder with vocab.json"):
        load_tokenizer(tmp_path)
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e l\n")
    with pytest.raises(UserError, match=r"merges\.txt:2 is 'h e l'"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('{"<s>": 0, ')
    with pytest.raises(UserError, match="damaged"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(UserError, match="at least 261"):
        train_byte_bpe(["text"], 260)
    assert train_byte_bpe(["text"], 261).vocab_size == 261


def test_a_vocabulary_that_the_text_cannot_reach_is_refused():
    with pytest.raises(UserError, match="at most 263") as raised:
        train_byte_bpe(["abc abc"], 5000)
    assert raised.value.exit_code == 2
    assert isinstance(train_byte_bpe(["abc abc"], 263), Tokenizer)


def test_sentences_of_running_text_keep_the_blank_between_them(tokenizer):
    groups = [["The river.", "The wind.", "a"], [], ["Only."], ["\u6c34\u3002", "\u98a8"]]
    found = tokenizer.encode_sentences(groups, blank_between=True)
    parts = [["The river.", " The wind.", " a"], [], ["Only."], ["\u6c34\u3002", "\u98a8"]]
    for ids, group in zip(found, parts, strict=True):
        assert ids.tolist() == [i for text in group for i in [*tokenizer.encode(text), 2]]
    assert tokenizer.encode_sentences(groups)[0].tolist() != found[0].tolist()
