import json
import tracemalloc

import pytest

from roberta_jax.data import corpus
from roberta_jax.data.corpus import Document, ReadCounts, read_documents
from roberta_jax.data.inputs import find_files
from roberta_jax.errors import UserError


def read(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_documents(find_files([str(path)]), **options))


def test_blank_lines_end_documents_of_plain_text(tmp_path):
    path = tmp_path / "a.txt"
    documents = read(path, "\n\nOne.\r\n Two. \n \t\n\nThree.")
    assert documents == [
        Document(["One.", "Two."], f"{path}:3"),
        Document(["Three."], f"{path}:7"),
    ]


def test_objects_are_the_documents_of_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"body": "One.\n\nTwo. Three.\r\n"}, {"body": " \n"}, {"x": 1, "body": "Four."}]
    content = "\n".join(map(json.dumps, lines)) + "\n\n"
    documents = read(path, content, text_field="body", sentence_splitter="punctuation")
    assert documents == [
        Document(["One.", "Two.", "Three."], f"{path}:1"),
        Document(["Four."], f"{path}:3"),
    ]


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert read(tmp_path / "a.txt", b"\xef\xbb\xbfOne")[0].sentences == ["One"]
    assert read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "One"}')[0].sentences == ["One"]


def test_unusual_line_separators_stay_inside_their_sentence(tmp_path):
    assert read(tmp_path / "a.txt", "a\u2028b\x0cc\x85d\n")[0].sentences == ["a\u2028b\x0cc\x85d"]


def test_files_follow_each_other_and_end_their_documents(tmp_path):
    for name, content in (("a.txt", "One"), ("b.txt", "Two"), ("c.jsonl", '{"text": "Three"}')):
        (tmp_path / name).write_text(content)
    counts = ReadCounts()
    documents = list(read_documents(find_files([str(tmp_path)]), counts=counts))
    assert [document.sentences for document in documents] == [["One"], ["Two"], ["Three"]]
    assert counts.stored_bytes == counts.text_bytes == 6 + 17


def test_bad_text_names_file_and_byte(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(UserError, match=r"a\.txt is not valid UTF-8 at byte 8.*--on_bad_text=skip"):
        read(path, b"One\nTwo \xff three\n")
    with pytest.raises(UserError, match="at byte 7"):
        read(path, b"\xef\xbb\xbfOne\n\xff")
    with pytest.raises(UserError, match="at byte 17"):
        read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "One \xff"}\n')
    with pytest.raises(UserError, match="at byte 31"):
        read(tmp_path / "a.jsonl", b'{"text": "One"}\n{"text": "Two, \xc3"}\n')


def test_bad_text_is_replaced_and_counted(tmp_path):
    counts = ReadCounts()
    options = {"on_bad_text": "replace", "counts": counts}
    content = b"One\nTwo \xff\xfe\nThree\n\n\xc3\n"
    documents = read(tmp_path / "a.txt", content, **options)
    assert [document.sentences for document in documents] == [["One", "Two ��", "Three"], ["�"]]
    assert (counts.replaced, counts.skipped) == (2, 0)
    documents = read(tmp_path / "a.jsonl", b'{"text": "a \xff"}\n{"text": "b"}\n', **options)
    assert [document.sentences for document in documents] == [["a �"], ["b"]]
    assert (counts.replaced, counts.skipped) == (3, 0)


def test_bad_text_is_skipped_and_counted(tmp_path):
    counts = ReadCounts()
    options = {"on_bad_text": "skip", "counts": counts}
    documents = read(tmp_path / "a.txt", b"One\nTwo \xff\xfe\nThree\n\n\xc3\n", **options)
    assert [document.sentences for document in documents] == [["One", "Three"]]
    read(tmp_path / "a.jsonl", b'{"text": "a\\n b \xff"}\n{"text": "b"}\n', **options)
    assert (counts.replaced, counts.skipped) == (0, 3)


def test_half_a_surrogate_pair_is_bad_text(tmp_path):
    path, content = tmp_path / "a.jsonl", '{"text": "ok \\ud83d\\ude00"}\n{"text": "a \\ud800 b"}\n'
    with pytest.raises(UserError, match="not valid UTF-8 at line 2"):
        read(path, content)
    replaced = read(path, content, on_bad_text="replace")
    assert [document.sentences for document in replaced] == [["ok 😀"], ["a � b"]]
    assert len(read(path, content, on_bad_text="skip")) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"title": "x"}', r"a\.jsonl:2 has no field 'text'; it has 'title'"),
        ("{}", "it has none"),
        ('{"text": null}', r"a\.jsonl:2: the field 'text' holds a NoneType"),
        ('{"text": "cut', r"a\.jsonl:2 is not JSON"),
        ('["text"]', r"a\.jsonl:2 is a JSON list"),
        ("[" * 100_000, r"a\.jsonl:2 is not JSON"),
    ],
)
def test_a_line_without_the_text_names_file_and_line(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.jsonl", '{"text": "fine"}\n' + line + "\n", on_bad_text="skip")


def test_unknown_rules_are_refused(tmp_path):
    with pytest.raises(UserError, match="error, replace, skip"):
        read(tmp_path / "a.txt", "One", on_bad_text="ignore")
    with pytest.raises(UserError, match="line, punctuation"):
        read(tmp_path / "a.txt", "One", sentence_splitter="lines")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_long_document_comes_in_pieces(tmp_path, monkeypatch, name):
    monkeypatch.setattr(corpus, "PIECE_CHARACTERS", 20)
    text = "\n".join(f"Sentence {i}." for i in range(9))
    content = text if name == "a.txt" else json.dumps({"text": text})
    documents = read(tmp_path / name, content)
    assert [document.is_start for document in documents] == [True, False, False, False, False]
    assert "\n".join(s for document in documents for s in document.sentences) == text


def test_a_long_line_is_cut_between_words_and_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "LONGEST_LINE_BYTES", 16)
    text = "Some ordinary words and 日本語日本語日本語日本語日本語 and more\nNext line\n"
    documents = read(tmp_path / "a.txt", text)
    (sentences,) = [document.sentences for document in documents]
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert "�" not in "".join(sentences)
    assert sentences[-1] == "Next line"
    assert max(len(sentence.encode()) for sentence in sentences) <= 2 * 16
    assert sentences[0] == "Some ordinary"


@pytest.mark.parametrize("limit", [1, 5, 16, 40])
def test_a_long_line_of_a_json_text_is_cut_between_words_and_loses_nothing(
    tmp_path, monkeypatch, limit
):
    monkeypatch.setattr(corpus, "LONGEST_LINE_CHARACTERS", limit)
    text = "Some ordinary words\n\nand 日本語日本語日本語日本語日本語 and more \nNext line"
    documents = read(tmp_path / "a.jsonl", json.dumps({"text": text}))
    (sentences,) = [document.sentences for document in documents]
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert max(map(len, sentences)) <= limit
    if limit == 16:
        assert sentences[:2] == ["Some ordinary", "words"] and sentences[-1] == "Next line"
    if limit == 40:
        assert sentences == [line.strip() for line in text.split("\n") if line]


def test_a_json_object_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "LONGEST_JSON_BYTES", 64)
    with pytest.raises(UserError, match=r"a\.jsonl:1 has more than"):
        read(tmp_path / "a.jsonl", json.dumps({"text": "word " * 100}))


def test_memory_is_bounded_by_a_piece_not_by_the_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("A sentence of some words.\n" * 160_000)  # 4 MB without a blank line.
    files = find_files([str(path)])
    tracemalloc.start()
    try:
        assert sum(len(document.sentences) for document in read_documents(files)) == 160_000
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2.5e6


def test_memory_is_bounded_by_a_few_times_a_json_object_on_one_line(tmp_path):
    path = tmp_path / "a.jsonl"
    text = "🙂 " + "Some words of a long line. " * 160_000  # 4.3 million characters.
    path.write_text(json.dumps({"text": text}, ensure_ascii=False))
    files = find_files([str(path)])
    del text
    tracemalloc.start()
    try:
        for document in read_documents(files, sentence_splitter="punctuation"):
            assert sum(map(len, document.sentences)) <= corpus.LONGEST_LINE_CHARACTERS
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Bytes, and characters of 4 bytes: as read, as parsed, while either is checked.
    assert peak_bytes < 14 * path.stat().st_size
