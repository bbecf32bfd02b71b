import itertools

from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data import parts
from roberta_jax.data.inputs import InputFile, Span
from roberta_jax.data.parts import plan_parts

MEGABYTE = 1 << 20


def files_of(sizes):
    return [InputFile(name, size, 0) for name, size in sizes]


def sizes_of(found):
    return [part.bytes for part in found]


def test_small_files_share_a_part_and_keep_their_order():
    files = files_of([(f"{i}.txt", 5 * MEGABYTE) for i in range(7)])
    found = plan_parts({"train": files, "validation": []})
    assert sizes_of(found) == [20 * MEGABYTE, 15 * MEGABYTE]
    assert [span.file for part in found for span in part.spans] == files
    assert [part.number for part in found] == [0, 1]


def test_a_large_plain_file_is_divided():
    (file,) = files_of([("a.txt", 100 * MEGABYTE)])
    found = plan_parts({"train": [file]})
    assert len(found) == 6
    ends = [part.spans[0].end for part in found]
    assert [part.spans[0].begin for part in found] == [0, *ends[:-1]]
    assert ends[-1] == file.bytes
    # Not where the file is a document.
    assert plan_parts({"train": [file]}, divide_plain_text=False)[0].spans == (Span.whole(file),)


def test_a_compressed_file_is_a_part_of_its_own():
    files = files_of([("a.txt.gz", 50 * MEGABYTE), ("b.jsonl.zst", MEGABYTE), ("c.txt", 100)])
    found = plan_parts({"train": files})
    assert [[span.file.path for span in part.spans] for part in found] == [
        ["a.txt.gz"],
        ["b.jsonl.zst", "c.txt"],
    ]


def test_splits_do_not_share_parts():
    train, validation = files_of([("a.txt", 10), ("b.txt", 20)])
    found = plan_parts({"train": [train], "validation": [validation]})
    assert [(part.number, part.split, part.bytes) for part in found] == [
        (0, "train", 10),
        (1, "validation", 20),
    ]


def test_a_huge_corpus_has_larger_parts_not_more():
    files = files_of([(f"{i}.jsonl", 10 << 30) for i in range(100)])
    found = plan_parts({"train": files})
    assert 300 <= len(found) <= parts.MOST_PARTS
    assert sum(sizes_of(found)) == 1000 << 30
    # The worst mixture of sizes: a small file before each that cannot join it.
    uneven = files_of([(f"{i}.txt.gz", (400 << 20) if i % 2 else (1 << 20)) for i in range(6000)])
    assert len(plan_parts({"train": uneven})) <= parts.MOST_PARTS + 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a.txt", "b.jsonl", "c.txt.gz", "d.parquet"]),
            st.integers(0, 60 * MEGABYTE),
        ),
        max_size=12,
    )
)
def test_every_byte_is_in_one_part(sizes):
    files = files_of([(f"{i}/{name}", size) for i, (name, size) in enumerate(sizes)])
    found = plan_parts({"train": files})
    spans = [span for part in found for span in part.spans]
    for file in files:
        of_file = [span for span in spans if span.file == file]
        assert of_file[0].begin == 0 and of_file[-1].end == file.bytes
        assert all(one.end == other.begin for one, other in itertools.pairwise(of_file))
    assert [part.number for part in found] == list(range(len(found)))


def test_the_key_of_a_part_depends_on_what_decides_its_rows():
    (file,) = files_of([("a.txt", 10)])
    (part,) = plan_parts({"train": [file]})
    keys = {part.key({"x": 1}), part.key({"x": 2})}
    for changed in (
        InputFile("b.txt", 10, 0),
        InputFile("a.txt", 11, 0),
        InputFile("a.txt", 10, 1),
    ):
        keys.add(plan_parts({"train": [changed]})[0].key({"x": 1}))
    assert len(keys) == 5
    assert part.key({"x": 1}) == plan_parts({"train": [file]})[0].key({"x": 1})
