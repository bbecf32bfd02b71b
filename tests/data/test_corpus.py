import gzip
import itertools
import json
import lzma
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from roberta_jax.data import corpus
from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.compression import zstd
from roberta_jax.data.corpus import Document, read_documents
from roberta_jax.data.inputs import InputFile, Span, find_files
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


def test_white_space_of_any_script_is_a_blank_line(tmp_path):
    documents = read(tmp_path / "a.txt", "一。\n\u3000\u3000\n二。\n \u00a0\n三。\n\u3000四。\n")
    assert [d.sentences for d in documents] == [["一。"], ["二。"], ["三。", "四。"]]


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
        ('{"text": 7}', r"a\.jsonl:2: the field 'text' holds a int"),
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
    path.write_text(f"{'A sentence. ' * 10}\n" * 40_000)  # 5 MB without a blank line.
    files = find_files([str(path)])
    tracemalloc.start()
    try:
        assert sum(len(document.sentences) for document in read_documents(files)) == 40_000
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


LINES = st.sampled_from(
    ["a b", "c", "", "  ", "a long line of many words", "\t", "é", "a b c d ", "x" * 6, " " * 20]
)


@pytest.mark.parametrize("longest_line", [1 << 20, 16, 7])
@given(
    lines=st.lists(LINES, max_size=20),
    borders=st.lists(st.integers(0, 120), max_size=4),
    documents=st.sampled_from(["blank_line", "line", "file"]),
    ends=st.booleans(),
)
def test_spans_share_the_documents_of_a_file(
    tmp_path_factory, longest_line, lines, borders, documents, ends
):
    text = "\n".join(lines) + ("\n" if ends else "")
    path = tmp_path_factory.mktemp("spans") / "a.txt"
    path.write_bytes(text.encode())
    file = InputFile(str(path), len(text.encode()), 0)
    if documents == "file":
        borders = []  # Such a file is not divided.
    cuts = sorted({0, file.bytes, *(border for border in borders if border < file.bytes)})
    spans = [Span(file, begin, end) for begin, end in itertools.pairwise(cuts)]

    def words(items, longest_line):
        """The words of every document, whatever the pieces that it comes in."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(corpus, "LONGEST_LINE_BYTES", longest_line)
            found = []
            for piece in read_documents(items, plain_text_documents=documents):
                if piece.is_start:
                    found.append([])
                found[-1] += " ".join(piece.sentences).split()
            return found

    assert words(spans, longest_line) == words([file], longest_line) == words([file], 1 << 20)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), st.integers(0, 200))
def test_spans_share_the_objects_of_json_lines(tmp_path_factory, texts, border):
    data = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    path = tmp_path_factory.mktemp("spans") / "a.jsonl"
    path.write_bytes(data)
    file = InputFile(str(path), len(data), 0)
    border = min(border, len(data))
    spans = [Span(file, 0, border), Span(file, border, len(data))]
    found = [document.sentences for document in read_documents(spans)]
    assert found == [document.sentences for document in read_documents([file])]


COMPRESSORS = {".gz": gzip.compress, ".zst": zstd.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("end", COMPRESSORS)
def test_compressed_files_read_like_plain_ones(tmp_path, end):
    text = "One.\nTwo.\n\nThree é.\n" * 500
    compress = COMPRESSORS[end]
    # Two compressed streams, one after the other, are one text.
    data = compress(text.encode()) + compress(text.encode())
    found = read(tmp_path / f"a.txt{end}", data)
    assert [d.sentences for d in found] == [d.sentences for d in read(tmp_path / "a.txt", text * 2)]


@pytest.mark.parametrize("end", COMPRESSORS)
def test_a_compressed_file_that_is_cut_off_is_named_and_what_came_before_is_read(tmp_path, end):
    path = tmp_path / f"a.txt{end}"
    text = "".join(f"Sentence {i * 7919 % 10007}{' x' * 60}.\n\n" for i in range(20_000))
    path.write_bytes(COMPRESSORS[end](text.encode())[:-8])
    documents = read_documents(find_files([str(path)]))
    assert next(documents).sentences == [f"Sentence 0{' x' * 60}."]
    with pytest.raises(UserError, match=f"a.txt{end} is damaged or cut off"):
        list(documents)


def write_table(path, columns, **options):
    parquet.write_table(
        pa.table(columns) if isinstance(columns, dict) else columns, path, **options
    )
    return find_files([str(path)])


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
def test_rows_are_the_documents_of_parquet(tmp_path, kind):
    texts = pa.array(["One.\nTwo.", None, " ", "Three é."], pa.string()).cast(kind)
    files = write_table(tmp_path / "a.parquet", {"id": [1, 2, 3, 4], "text": texts})
    assert list(read_documents(files)) == [
        Document(["One.", "Two."], f"{tmp_path}/a.parquet, row 1"),
        Document(["Three é."], f"{tmp_path}/a.parquet, row 4"),
    ]


@pytest.mark.parametrize("cut", [0.0, 0.2, 0.5, 0.9])
def test_spans_share_the_row_groups_of_parquet(tmp_path, cut):
    texts = [f"Text {i}." for i in range(1000)]
    (file,) = write_table(tmp_path / "a.parquet", {"text": texts}, row_group_size=70)
    border = int(file.bytes * cut)
    spans = [Span(file, 0, border), Span(file, border, file.bytes)]
    found = [document.sentences for document in read_documents(spans)]
    assert found == [[text] for text in texts]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["x"]}, "no column 'text'; it has body.*--text_field"),
        ({"text": [1]}, "'text' holds int64; it must hold strings"),
        (pa.table([["x"], ["y"]], names=["text", "text"]), "several columns 'text'"),
    ],
)
def test_a_table_without_the_text_is_refused(tmp_path, columns, message):
    files = write_table(tmp_path / "a.parquet", columns)
    with pytest.raises(UserError, match=message):
        list(read_documents(files))


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, {"text": [f"Text {i}." for i in range(10_000)]}, row_group_size=1000)
    whole = path.read_bytes()
    for damaged in (whole[:-100], b"PAR1" + bytes(50_000) + whole[50_004:], b"no table"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.parquet is damaged or cut off"):
            list(read_documents(find_files([str(path)])))


def test_bad_text_in_a_table_follows_the_rule(tmp_path):
    path = tmp_path / "a.parquet"
    texts = pa.array([b"Good.", b"B\xffd.", b"Fine."]).cast(pa.string(), safe=False)
    files = write_table(path, {"text": texts})
    with pytest.raises(UserError, match="not valid UTF-8 at row 2"):
        list(read_documents(files))
    counts = ReadCounts()
    found = read_documents(files, on_bad_text="skip", counts=counts)
    assert [d.sentences for d in found] == [["Good."], ["Fine."]]
    assert counts.skipped == 1


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ("blank_line", [["One.", "Two."], ["Three."]]),
        ("line", [["One."], ["Two."], ["Three."]]),
        ("file", [["One.", "Two.", "Three."]]),
    ],
)
def test_what_is_a_document_of_plain_text_is_a_choice(tmp_path, documents, expected):
    found = read(tmp_path / "a.txt", "One.\nTwo.\n\n\nThree.", plain_text_documents=documents)
    assert [d.sentences for d in found] == expected
    assert all(document.is_start for document in found)


def test_another_word_for_documents_is_refused(tmp_path):
    with pytest.raises(UserError, match="must be one of blank_line, line, file"):
        read(tmp_path / "a.txt", "x", plain_text_documents="page")


def test_null_is_a_document_without_text(tmp_path):
    found = read(tmp_path / "a.jsonl", '{"text": null}\n{"text": "One."}\n')
    assert [document.sentences for document in found] == [["One."]]
