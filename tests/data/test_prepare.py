import errno
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from roberta_jax.data import assembly, output_folder, part_work, part_writer, parts
from roberta_jax.data import prepare as prepare_module
from roberta_jax.data.byte_bpe import train_byte_bpe
from roberta_jax.data.manifest import Manifest
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import open_dataset
from roberta_jax.data.runners import LocalRunner
from roberta_jax.errors import MachineError, UserError

SETTINGS = {"sequence_length": 32, "validation_fraction": 0.1, "rows_per_shard": 100}


def run(
    inputs,
    tokenizer_folder,
    output,
    *,
    said=None,
    validation_inputs=(),
    overwrite=False,
    runner=None,
    **settings,
):
    return prepare(
        inputs=[str(path) for path in inputs],
        tokenizer_folder=tokenizer_folder,
        output=output,
        settings=PrepareSettings(**{**SETTINGS, **settings}),
        validation_inputs=[str(path) for path in validation_inputs],
        overwrite=overwrite,
        runner=runner,
        say=(said if said is not None else []).append,
    )


def tokens(folder, split):
    dataset = open_dataset(folder, split)
    rows = dataset.read(np.arange(len(dataset)))
    return rows[rows > 3].tolist()


def test_the_dataset_of_a_corpus_stays_as_it_is(dataset_folder):
    manifest = Manifest.load(dataset_folder)
    assert manifest.fingerprint == "a153f2aa4552a321"
    row = open_dataset(dataset_folder, "train").read(np.array([0]))[0]
    assert row[:6].tolist() == [0, 367, 345, 17, 2, 386]


def test_every_sentence_is_in_its_split(dataset_folder, documents, tokenizer):
    chosen = [1, 11, 21, 31]
    for split, numbers in (
        ("train", [i for i in range(40) if i not in chosen]),
        ("validation", chosen),
    ):
        expected = [
            i for number in numbers for text in documents[number] for i in tokenizer.encode(text)
        ]
        assert tokens(dataset_folder, split) == expected


def test_the_manifest_counts_what_is_there(dataset_folder, documents):
    manifest = Manifest.load(dataset_folder)
    train, validation = manifest.splits["train"], manifest.splits["validation"]
    assert (train.documents, validation.documents) == (36, 4)
    assert train.sentences + validation.sentences == sum(map(len, documents))
    for name, split in manifest.splits.items():
        dataset = open_dataset(dataset_folder, name)
        rows = dataset.read(np.arange(len(dataset)))
        assert len(dataset) == split.rows == sum(shard.rows for shard in split.shards)
        assert split.padding_tokens == (rows == 1).sum()
        assert split.tokens == (rows != 1).sum()
    assert len(train.shards) == 4
    assert manifest.dtype == "uint16"
    assert [item["split"] for item in manifest.inputs] == ["train"] * 3


def test_the_summary_tells_the_counts(corpus_folder, tokenizer_folder, tmp_path):
    said = []
    run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
    assert said[0].startswith("1 part with about ") and "are free" in said[0]
    assert said[1].startswith("train: 36 documents, ") and "padding" in said[1]
    assert said[2].startswith("validation: 4 documents, ")
    assert said[3] == f"written to {tmp_path / 'out'}"


def test_a_second_run_has_nothing_to_do(corpus_folder, tokenizer_folder, tmp_path, monkeypatch):
    output, said = tmp_path / "out", []
    manifest = run([corpus_folder], tokenizer_folder, output)
    monkeypatch.setattr(part_writer, "encode_documents", None)
    assert run([corpus_folder], tokenizer_folder, output, said=said) == manifest
    assert len(said) == 1 and "nothing to do" in said[0]


def test_a_damaged_dataset_is_not_taken_for_a_finished_one(
    corpus_folder, tokenizer_folder, tmp_path
):
    output = tmp_path / "out"
    manifest = run([corpus_folder], tokenizer_folder, output)
    (output / manifest.splits["train"].shards[0].name).unlink()
    with pytest.raises(UserError, match="--overwrite"):
        run([corpus_folder], tokenizer_folder, output)
    assert run([corpus_folder], tokenizer_folder, output, overwrite=True) == manifest


def test_another_output_is_named_and_only_replaced_when_asked(
    corpus_folder, tokenizer_folder, documents, tmp_path
):
    inputs, output = [tmp_path / "a.txt"], tmp_path / "out"
    shutil.copy(corpus_folder / "a.txt", inputs[0])
    before = run(inputs, tokenizer_folder, output)
    with pytest.raises(UserError, match="sequence_length was 32 and is 40.*--overwrite"):
        run(inputs, tokenizer_folder, output, sequence_length=40)
    other = tmp_path / "other"
    train_byte_bpe(["\n".join(document) for document in documents], 300).save(other)
    with pytest.raises(UserError, match="the tokenizer was .* and is"):
        run(inputs, other, output)
    os.utime(inputs[0], ns=(1, 1))
    with pytest.raises(UserError, match=r"1 input files were .*a\.txt"):
        run(inputs, tokenizer_folder, output)
    assert Manifest.load(output) == before
    after = run(inputs, tokenizer_folder, output, overwrite=True, sequence_length=40)
    assert Manifest.load(output) == after != before
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is no prepared dataset"):
        run(inputs, tokenizer_folder, tmp_path / "mine", overwrite=True)


def test_validation_may_have_its_own_text(corpus_folder, tokenizer_folder, documents, tmp_path):
    files = {"validation_inputs": [corpus_folder / "b.jsonl"]}
    with pytest.raises(UserError, match="Give one of them"):
        run([corpus_folder / "a.txt"], tokenizer_folder, tmp_path / "out", **files)
    manifest = run(
        [corpus_folder / "a.txt"],
        tokenizer_folder,
        tmp_path / "out",
        validation_fraction=0,
        **files,
    )
    assert manifest.splits["train"].documents == 15
    assert manifest.splits["validation"].documents == 10
    assert [item["split"] for item in manifest.inputs] == ["train", "validation"]


def test_two_documents_are_enough_for_a_validation_split(tokenizer_folder, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("The old river came back. " * 20 + "\n\nThe wind fell.\n")
    manifest = run([path], tokenizer_folder, tmp_path / "two", validation_fraction=0.01)
    assert [split.documents for split in manifest.splits.values()] == [1, 1]
    said = []
    path.write_text("The old river came back. " * 20)
    manifest = run([path], tokenizer_folder, tmp_path / "one", said=said)
    assert manifest.splits["validation"].rows == 0
    assert any("validation split is empty" in line for line in said)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence_length": 4000}, "too small.*do not fill one row of 4000"),
        ({"sequence_length": 7}, "sequence_length is 7"),
        ({"validation_fraction": 0.7}, "validation_fraction is 0.7"),
        ({"format": "segments"}, "must be one of full_sentences"),
        ({"rows_per_shard": 0}, "rows_per_shard is 0"),
        ({"text_field": "body"}, "no field 'body'"),
        ({"sentence_splitter": "word"}, "line, punctuation, rules"),
        ({"sentence_splitter": "rules", "language": "English"}, "a code such as en, ko or zh"),
    ],
)
def test_unusable_settings_leave_nothing(
    corpus_folder, tokenizer_folder, tmp_path, settings, message
):
    with pytest.raises(UserError, match=message) as raised:
        run([corpus_folder / "b.jsonl"], tokenizer_folder, tmp_path / "out", **settings)
    assert raised.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_bad_text_is_counted_in_the_manifest(tokenizer_folder, tmp_path):
    path, said = tmp_path / "a.txt", []
    path.write_bytes(b"The old river \xff came back.\n" * 20)
    with pytest.raises(UserError, match="at byte 14"):
        run([path], tokenizer_folder, tmp_path / "out")
    manifest = run([path], tokenizer_folder, tmp_path / "out", on_bad_text="replace", said=said)
    assert manifest.odd_text == {"replaced": 20, "skipped": 0, "special_names": 0, "duplicates": 0}
    assert "lines or documents that are not UTF-8: 20 replaced, 0 skipped" in said


def test_a_remote_output_is_refused(corpus_folder, tokenizer_folder):
    with pytest.raises(UserError, match="is not local"):
        run([corpus_folder], tokenizer_folder, "gs://bucket/out")


def test_an_id_outside_the_vocabulary_never_reaches_a_shard(
    corpus_folder, tokenizer_folder, tmp_path, monkeypatch
):
    def wrong(tokenizer, documents, **options):
        yield "train", True, np.array([tokenizer.vocab_size, 2])

    monkeypatch.setattr(part_writer, "encode_documents", wrong)
    with pytest.raises(AssertionError, match="outside the vocabulary"):
        run([corpus_folder], tokenizer_folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]),) * 2)
from roberta_jax.data import part_writer, prepare as module
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.errors import UserError

class SlowWriter(part_writer.ShardWriter):
    def write(self, rows):
        print("started", flush=True)
        time.sleep(float(sys.argv[4]))
        super().write(rows)

part_writer.ShardWriter = SlowWriter
try:
    module.prepare(
        inputs=[sys.argv[1]], tokenizer_folder=sys.argv[2], output=sys.argv[3],
        settings=PrepareSettings(sequence_length=32), say=lambda line: None,
    )
except UserError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def start(
    corpus_folder, tokenizer_folder, output, seconds, limit=resource.RLIM_INFINITY, **options
):
    # The limit is set in the child: a function to run between fork and exec would fork this
    # process, in which other tests may have started jax and its threads.
    command = [sys.executable, "-c", SCRIPT, corpus_folder, tokenizer_folder, output]
    return subprocess.Popen(
        [*command, str(seconds), str(limit)], stdout=subprocess.PIPE, text=True, **options
    )


def test_an_interrupted_run_leaves_nothing(corpus_folder, tokenizer_folder, tmp_path):
    with start(corpus_folder, tokenizer_folder, tmp_path / "out", 60, stderr=-3) as process:
        assert process.stdout.readline() == "started\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_is_cleaned_up_by_the_next(corpus_folder, tokenizer_folder, tmp_path):
    with start(corpus_folder, tokenizer_folder, tmp_path / "out", 60) as process:
        assert process.stdout.readline() == "started\n"
        with pytest.raises(UserError, match="Another process is writing"):
            run([corpus_folder], tokenizer_folder, tmp_path / "out")
        process.kill()
    assert not (tmp_path / "out").exists()
    run([corpus_folder], tokenizer_folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_ends_in_one_paragraph_and_leaves_nothing(
    corpus_folder, tokenizer_folder, tmp_path
):
    with start(corpus_folder, tokenizer_folder, tmp_path / "out", 0, 70_000) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == MachineError.exit_code
    assert "cannot be written" in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def many_parts(monkeypatch):
    """Makes a part of about every 3 kB of text."""
    monkeypatch.setattr(parts, "PART_BYTES", 3000)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_processes_change_the_speed_and_no_byte(
    corpus_folder, tokenizer_folder, tmp_path, many_parts
):
    made = [
        run([corpus_folder], tokenizer_folder, tmp_path / str(n), runner=LocalRunner(n))
        for n in (1, 2, 3)
    ]
    assert made[0].splits["train"].documents + made[0].splits["validation"].documents == 40
    assert len(made[0].splits["train"].shards) > 5
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


def test_a_stopped_run_goes_on_from_its_finished_parts(
    corpus_folder, tokenizer_folder, tmp_path, many_parts, monkeypatch
):
    run([corpus_folder], tokenizer_folder, tmp_path / "whole")
    write, written, said = part_work.write_part, [], []

    def stop_at_the_fourth(part, folder, **options):
        if len(written) == 3:
            (folder / "train-00000.unfinished").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(part.number)
        return write(part, folder, **options)

    monkeypatch.setattr(part_work, "write_part", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
    assert "3 of " in said[-1] and "the same command goes on" in said[-1]
    assert not (tmp_path / "out").exists() and (tmp_path / "out.unfinished").is_dir()

    def write_and_note(part, folder, **options):
        written.append(part.number)
        return write(part, folder, **options)

    monkeypatch.setattr(part_work, "write_part", write_and_note)
    # A file of a finished part that is damaged meanwhile is made again.
    (shard,) = (tmp_path / "out.unfinished/part-00001").glob("train-*.array_record")
    shard.write_bytes(shard.read_bytes()[:-1])
    run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
    assert any(line.startswith("going on: 2 of ") for line in said)
    assert written[:3] == [0, 1, 2] and written[3:5] == [1, 3]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out.unfinished").exists()


def test_what_others_leave_in_the_unfinished_folder_is_no_obstacle(
    corpus_folder, tokenizer_folder, tmp_path, many_parts, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "assemble", None)
        with pytest.raises(TypeError):
            run([corpus_folder], tokenizer_folder, tmp_path / "out")
    (tmp_path / "out.unfinished" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "out.unfinished" / "part-00099.partial-0").mkdir()
    said = []
    run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
    assert said[0].startswith("going on") and not (tmp_path / "out.unfinished").exists()


def test_a_second_run_leaves_the_work_of_the_first_alone(
    corpus_folder, tokenizer_folder, tmp_path, monkeypatch
):
    run([corpus_folder], tokenizer_folder, tmp_path / "out")
    write, said = part_work.write_part, []

    def meanwhile(part, folder, **options):
        run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
        return write(part, folder, **options)

    monkeypatch.setattr(part_work, "write_part", meanwhile)
    run([corpus_folder], tokenizer_folder, tmp_path / "out", overwrite=True)
    assert "nothing to do" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_parts_made_otherwise_are_not_taken(
    corpus_folder, tokenizer_folder, tmp_path, many_parts, monkeypatch
):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            run([corpus_folder], tokenizer_folder, tmp_path / "out")
    said = []
    run([corpus_folder], tokenizer_folder, tmp_path / "out", sequence_length=40, said=said)
    assert not any(line.startswith("going on") for line in said)
    run([corpus_folder], tokenizer_folder, tmp_path / "whole", sequence_length=40)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_is_damaged_is_named_and_the_rest_is_kept(
    corpus_folder, tokenizer_folder, tmp_path, many_parts
):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus_folder, folder)
    whole = (folder / "c.jsonl.gz").read_bytes()
    (folder / "c.jsonl.gz").write_bytes(whole[:-20])
    for num_processes in (1, 2):
        with pytest.raises(UserError, match=r"c\.jsonl\.gz is damaged or cut off"):
            run([folder], tokenizer_folder, tmp_path / "out", runner=LocalRunner(num_processes))
    (folder / "c.jsonl.gz").write_bytes(whole)
    said = []
    run([folder], tokenizer_folder, tmp_path / "out", said=said)
    assert said[0].startswith("going on: ")


@pytest.mark.parametrize("format", ["doc_sentences", "segment_pair", "sentence_pair"])
def test_packed_formats_keep_examples_and_labels(corpus_folder, tokenizer_folder, tmp_path, format):
    manifest = run(
        [corpus_folder], tokenizer_folder, tmp_path / "out", format=format, sequence_length=64
    )
    assert manifest.attention == "example"
    dataset = open_dataset(tmp_path / "out", "train")
    index = np.arange(len(dataset))
    rows, labels = dataset.read(index), dataset.read_labels(index)
    split = manifest.splits["train"]
    assert rows.shape == (split.rows, 64) and labels.shape == (split.rows, manifest.label_slots)
    assert (rows == 0).sum() == split.examples > split.rows
    if manifest.label_slots:
        assert (labels == 1).sum() == split.next_pairs
        assert (labels == 2).sum() == split.random_pairs
        np.testing.assert_array_equal((labels > 0).sum(1), (rows == 0).sum(1))
    else:
        assert format == "doc_sentences"


def test_pairs_need_several_documents(tokenizer_folder, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("The old river came back.\nThe wind fell.\n" * 50)
    with pytest.raises(UserError, match="found one: there are 1 documents.*blank line"):
        run(
            [path],
            tokenizer_folder,
            tmp_path / "out",
            format="segment_pair",
            validation_fraction=0,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_names_of_special_tokens_in_the_text_are_text_and_counted(tokenizer_folder, tmp_path):
    path, said = tmp_path / "a.txt", []
    path.write_text("A <mask> and <s> in the old <maske>.\n" * 20)
    manifest = run([path], tokenizer_folder, tmp_path / "out", said=said)
    assert manifest.odd_text["special_names"] == 40
    assert any("spells special tokens, such as <mask>, 40 times" in line for line in said)
    rows = open_dataset(tmp_path / "out", "train").read(np.arange(manifest.splits["train"].rows))
    assert (rows == 0).sum() == len(rows) and (rows != 399).all()


def test_a_folder_of_somebody_else_is_not_taken_for_ours(corpus_folder, tokenizer_folder, tmp_path):
    mine = tmp_path / "out.unfinished" / "part-00000" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(UserError, match="made by something else"):
        run([corpus_folder], tokenizer_folder, tmp_path / "out")
    assert mine.read_text() == "years of work"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (prepare_module, "assemble"),
        (assembly, "validation_documents"),
        (assembly.Manifest, "save"),
        (output_folder, "flush_to_disk"),
        (output_folder, "_put_in_place"),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_run_that_is_stopped_while_it_joins_the_parts_loses_none(
    corpus_folder, tokenizer_folder, tmp_path, many_parts, monkeypatch, module, name, error
):
    run([corpus_folder], tokenizer_folder, tmp_path / "whole")

    def stop(*arguments, **options):
        if name != "flush_to_disk" or not arguments[0].name.startswith("part-"):
            raise error

    said = []
    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        with pytest.raises((KeyboardInterrupt, MachineError)):
            run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
    assert not (tmp_path / "out").exists()
    number = said[-1].split()[1]
    assert said[-1].startswith(f"stopped: {number} of {number} parts are finished")
    monkeypatch.setattr(part_work, "write_part", None)
    run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_ids_of_validation_documents_that_are_cut_off_are_made_again(
    corpus_folder, tokenizer_folder, tmp_path, many_parts, monkeypatch
):
    run([corpus_folder], tokenizer_folder, tmp_path / "whole")

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            run([corpus_folder], tokenizer_folder, tmp_path / "out")
    damaged = 0
    for path in (tmp_path / "out.unfinished").glob("*/validation-ids"):
        if data := path.read_bytes():
            path.write_bytes(data[:-4])
            damaged += 1
    assert damaged
    run([corpus_folder], tokenizer_folder, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_a_run_left_that_was_killed_at_its_very_end_is_removed(
    corpus_folder, tokenizer_folder, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "_remove_marked", lambda folder: None)
        run([corpus_folder], tokenizer_folder, tmp_path / "out")
    assert (tmp_path / "out.unfinished").is_dir()
    said = []
    run([corpus_folder], tokenizer_folder, tmp_path / "out", said=said)
    assert "nothing to do" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_documents_of_one_sentence_give_no_pairs(tokenizer_folder, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("The old river came back.\n" * 100)
    with pytest.raises(UserError, match="documents of several sentences, but none of"):
        run(
            [path],
            tokenizer_folder,
            tmp_path / "out",
            format="segment_pair",
            plain_text_documents="line",
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_one_document_of_one_sentence_gives_no_pairs(tokenizer_folder, tmp_path):
    (tmp_path / "a.txt").write_text("The old river came back. " * 200)
    with pytest.raises(UserError, match="needs documents of several sentences"):
        run(
            [tmp_path / "a.txt"],
            tokenizer_folder,
            tmp_path / "out",
            format="segment_pair",
            validation_fraction=0,
        )


def test_validation_text_is_not_trained_on(corpus_folder, tokenizer_folder, tmp_path):
    with pytest.raises(UserError, match=r"b\.jsonl is also an input for training"):
        run(
            [corpus_folder],
            tokenizer_folder,
            tmp_path / "out",
            validation_fraction=0,
            validation_inputs=[corpus_folder / ".." / corpus_folder.name / "b.jsonl"],
        )
