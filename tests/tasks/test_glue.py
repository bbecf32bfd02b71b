import gzip

import numpy as np
import pytest
import tensorflow_datasets as tfds

from roberta_jax.data.tables import read_table
from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import DIAGNOSTIC, find_task
from roberta_jax.tasks.examples import TextExample
from roberta_jax.tasks.glue import load_glue
from roberta_jax.tasks.predictions import Predictions
from roberta_jax.tasks.submission import write_predictions

# Task, header and rows of train and dev, header and rows of test, and what the rows are: the
# published layouts.
MNLI = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"]
MNLI += ["sentence1_parse", "sentence2_parse", "sentence1", "sentence2"]
STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2"]
STSB += ["sentence1", "sentence2"]
STSB_ROW = ["0", "main-captions", "MSRvid", "2012test", "0001", "none", "none"]
FILES = {
    "cola": (None, ["gj04", "1", "", 'He "said" it.'], ["index", "sentence"], ["0", "So."]),
    "sst2": (["sentence", "label"], ["it 's \" fine ", "1"], ["index", "sentence"], ["0", "bad"]),
    "mrpc": (
        ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["1", "70", "71", 'One "a".', "Two."],
        ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["0", "1", "2", "Three", "Four"],
    ),
    "stsb": (
        [*STSB, "score"],
        [*STSB_ROW, "One.", "Two.", "3.800"],
        STSB,
        [*STSB_ROW, "Three", "Four"],
    ),
    "qqp": (
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["13", "1", "2", "One?", "Two?", "1"],
        ["id", "question1", "question2"],
        ["0", "Three?", "Four?"],
    ),
    "mnli": (
        [*MNLI, "label1", "gold_label"],
        ["0", *"abcdefg", "One.", "Two.", "entailment", "entailment"],
        MNLI,
        ["0", *"abcdefg", "Three", "Four"],
    ),
    "qnli": (
        ["index", "question", "sentence", "label"],
        ["0", "One?", "Two.", "entailment"],
        ["index", "question", "sentence"],
        ["0", "Three?", "Four"],
    ),
    "rte": (
        ["index", "sentence1", "sentence2", "label"],
        ["0", "One.", "Two.", "entailment"],
        ["index", "sentence1", "sentence2"],
        ["0", "Three", "Four"],
    ),
    "wnli": (
        ["index", "sentence1", "sentence2", "label"],
        ["0", "One.", "Two.", "1"],
        ["index", "sentence1", "sentence2"],
        ["0", "Three", "Four"],
    ),
}


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(line) + "\n" for line in lines if line))
    return path


def write_task(folder, name):
    task = find_task(name)
    header, row, test_header, test_row = FILES[name]
    for split in ("train", *task.dev):
        write(folder / f"{split}.tsv", header, row)
    for split in task.test:
        if split != DIAGNOSTIC:
            write(folder / f"{split}.tsv", test_header, test_row)
    return folder


def splits_of(task):
    """Those of `write_task`."""
    return ["train", *task.dev, *(split for split in task.test if split != DIAGNOSTIC)]


@pytest.mark.parametrize("name", FILES)
def test_the_published_layout_of_every_task_is_read(name, tmp_path):
    task = find_task(name)
    write_task(tmp_path / task.title, name)
    whole = load_glue(task, str(tmp_path))
    assert whole == load_glue(task, str(tmp_path / task.title))
    assert list(whole.splits) == splits_of(task) and not whole.notes
    for split, (example,) in whole.splits.items():
        row = FILES[name][3 if split in task.test else 1]
        number_of_texts = 1 if name in ("cola", "sst2") else 2
        assert len(example.texts) == number_of_texts
        assert all(text in map(str.strip, row) for text in example.texts)
        if split in task.test:
            assert example.label is None
        else:
            assert example.label == {"stsb": 3.8, "mnli": 2}.get(name, 1)
    assert whole.splits[task.dev[0]][0].texts[0].startswith(("One", "He", "it"))


def test_quotes_are_text_and_blanks_at_the_ends_are_not(tmp_path):
    splits = load_glue(find_task("sst2"), str(write_task(tmp_path, "sst2"))).splits
    assert splits["train"] == [TextExample("0", ("it 's \" fine",), 1)]
    assert splits["test"] == [TextExample("0", ("bad",), None)]


def test_ids_are_those_that_glue_submits(tmp_path):
    task = find_task("qqp")
    splits = load_glue(task, str(write_task(tmp_path, "qqp"))).splits
    assert [splits[name][0].id for name in splits] == ["13", "13", "0"]
    write(tmp_path / "test.tsv", FILES["qqp"][2], ["7", "a?", "b?"], ["9", "c?", "d?"])
    assert [e.id for e in load_glue(task, str(tmp_path)).splits["test"]] == ["7", "9"]


def test_broken_rows_of_qqp_are_left_out_and_told(tmp_path):
    header, row, *_ = FILES["qqp"]
    write_task(tmp_path, "qqp")
    broken = [row[:3]] * 7
    write(tmp_path / "train.tsv", header, row, *broken, row, [*row, "more"])
    loaded = load_glue(find_task("qqp"), str(tmp_path))
    assert len(loaded.splits["train"]) == 2
    (note,) = loaded.notes
    assert "train.tsv: 8 broken rows were left out (line 3, line 4, line 5" in note
    assert "line 7, …)" in note


def test_a_broken_row_elsewhere_is_refused(tmp_path):
    header, row, test_header, test_row = FILES["rte"]
    write_task(tmp_path, "rte")
    write(tmp_path / "train.tsv", header, row, row[:3])
    with pytest.raises(UserError, match=r"train.tsv, line 3 has 3 fields, .* 4 columns"):
        load_glue(find_task("rte"), str(tmp_path))
    write_task(tmp_path, "qqp")
    write(tmp_path / "test.tsv", FILES["qqp"][2], FILES["qqp"][3][:2])
    with pytest.raises(UserError, match=r"test.tsv, line 2 has 2 fields"):
        load_glue(find_task("qqp"), str(tmp_path))


def test_pairs_without_agreement_are_left_out_and_told(tmp_path):
    header, row, *_ = FILES["mnli"]
    write_task(tmp_path, "mnli")
    write(tmp_path / "dev_matched.tsv", header, row, [*row[:-1], "-"], row)
    loaded = load_glue(find_task("mnli"), str(tmp_path))
    assert len(loaded.splits["dev_matched"]) == 2
    assert loaded.notes[0].endswith(
        "dev_matched.tsv: 1 row without a label on which people agreed was left out (line 3)."
    )


@pytest.mark.parametrize("file", ["diagnostic/diagnostic.tsv", "AX/AX.tsv", "AX/test.tsv.gz"])
@pytest.mark.parametrize("data", ["", "MNLI"])
def test_the_diagnostic_set_is_a_test_split_of_mnli(tmp_path, file, data):
    task = find_task("mnli")
    write_task(tmp_path / "MNLI", "mnli")
    path = tmp_path / file
    rows = ["index", "sentence1", "sentence2"], ["0", "One.", "Two."], ["1", "Three.", "Four."]
    text = write(path, *rows).read_bytes()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    splits = load_glue(task, str(tmp_path / data)).splits
    assert list(splits) == [*splits_of(task), DIAGNOSTIC]
    assert splits[DIAGNOSTIC] == [
        TextExample("0", ("One.", "Two."), None),
        TextExample("1", ("Three.", "Four."), None),
    ]
    found = Predictions(np.array([2, 0]))
    (path,) = write_predictions(tmp_path / "out", task, DIAGNOSTIC, splits[DIAGNOSTIC], found)
    assert path.name == "AX.tsv"
    assert path.read_text() == "index\tprediction\n0\tentailment\n1\tcontradiction\n"
    write_task(tmp_path / "RTE", "rte")
    assert DIAGNOSTIC not in load_glue(find_task("rte"), str(tmp_path)).splits


def test_a_diagnostic_file_in_another_layout_is_told(tmp_path):
    write_task(tmp_path / "MNLI", "mnli")
    write(tmp_path / "AX" / "AX.tsv", ["index", "prediction"], ["0", "neutral"])
    with pytest.raises(UserError, match=r"AX.tsv has no column 'sentence1' and no column 'sent"):
        load_glue(find_task("mnli"), str(tmp_path))


def test_compressed_files_are_read(tmp_path):
    whole = load_glue(find_task("rte"), str(write_task(tmp_path, "rte")))
    path = tmp_path / "train.tsv"
    with gzip.open(tmp_path / "train.tsv.gz", "wb") as file:
        file.write(path.read_bytes())
    path.unlink()
    assert load_glue(find_task("rte"), str(tmp_path)) == whole


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("rte", ["1", "a", "b", "neutral"], r"train.tsv, line 3 has 'neutral' as its label; of "),
        ("rte", ["1", "a", "b", ""], r"has '' .* one of not_entailment, entailment"),
        ("cola", ["gj04", "2", "", "So."], r"train.tsv, line 2 has '2' .* one of 0, 1"),
        ("stsb", [*FILES["stsb"][1][:-1], "5.1"], r"line 3 has '5.1' as its score.* 0 to 5"),
        ("stsb", [*FILES["stsb"][1][:-1], "nan"], r"line 3 has 'nan' as its score"),
        ("stsb", [*FILES["stsb"][1][:-1], "x"], r"line 3 has 'x' as its score"),
    ],
)
def test_a_label_that_is_none_names_its_row(tmp_path, name, line, message):
    header, row, *_ = FILES[name]
    write_task(tmp_path, name)
    write(tmp_path / "train.tsv", header, row, line)
    with pytest.raises(UserError, match=message):
        load_glue(find_task(name), str(tmp_path))


def test_a_file_of_another_task_says_what_the_layout_is(tmp_path):
    header, row, *_ = FILES["cola"]
    write_task(tmp_path, "cola")
    write(tmp_path / "train.tsv", ["source", "label", "mark", "sentence"], row)
    with pytest.raises(UserError, match=r"line 1 is 'source label .*no line that names them"):
        load_glue(find_task("cola"), str(tmp_path))
    write(tmp_path / "train.tsv", ["sentence", "label"], ["a", "1"])
    with pytest.raises(
        UserError, match=r"line 1 has 2 fields.*CoLA have 4 columns, source, .*no line that names"
    ):
        load_glue(find_task("cola"), str(tmp_path))
    write(tmp_path / "train.tsv", row)
    with pytest.raises(UserError, match=r"train.tsv has no column 'sentence' and no column 'label"):
        load_glue(find_task("sst2"), str(tmp_path))
    write_task(tmp_path, "rte")
    with pytest.raises(UserError, match=r"has 'entailment' as its label; of WNLI"):
        load_glue(find_task("wnli"), str(tmp_path))


def test_a_task_without_dev_data_is_for_prediction_only(tmp_path):
    write_task(tmp_path, "rte")
    (tmp_path / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"has no dev.tsv; RTE needs train and dev"):
        load_glue(find_task("rte"), str(tmp_path))
    loaded = load_glue(find_task("rte"), str(tmp_path), for_training=False)
    assert list(loaded.splits) == ["train", "test"]
    (tmp_path / "test.tsv").unlink()
    assert list(load_glue(find_task("rte"), str(tmp_path), for_training=False).splits) == ["train"]


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="which is no folder.*the folder RTE"):
        load_glue(find_task("rte"), str(tmp_path / "none"))
    with pytest.raises(UserError, match="has no train.tsv and no dev_matched.tsv and no dev_mism"):
        load_glue(find_task("mnli"), str(tmp_path))
    with pytest.raises(UserError, match="has no train.tsv and no dev.tsv and no test.tsv"):
        load_glue(find_task("rte"), str(tmp_path), for_training=False)
    for name in ("rte", "cola"):
        folder = write_task(tmp_path / name, name)
        write(folder / "train.tsv", FILES[name][0])
        with pytest.raises(UserError, match="has no rows"):
            load_glue(find_task(name), str(folder))
        write(folder / "train.tsv")
        with pytest.raises(UserError, match="is empty|has no rows"):
            load_glue(find_task(name), str(folder))


# Through TFDS: classes and features as its own builder has them.

CLASSES = {
    "cola": ["unacceptable", "acceptable"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "wnli": ["not_entailment", "entailment"],
    "stsb": None,
    "ax": ["entailment", "neutral", "contradiction"],
}
FEATURES = {
    "cola": ["sentence"],
    "mnli": ["premise", "hypothesis"],
    "qnli": ["question", "sentence"],
    "wnli": ["sentence1", "sentence2"],
    "stsb": ["sentence1", "sentence2"],
    "ax": ["premise", "hypothesis"],
}


class Glue(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in CLASSES]

    def _info(self):
        name = self.builder_config.name
        features = {feature: tfds.features.Text() for feature in FEATURES[name]}
        names = CLASSES[name]
        features["label"] = tfds.features.ClassLabel(names=names) if names else np.float32
        features["idx"] = np.int32
        # Shuffled, as TFDS's own.
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        if self.builder_config.name == "ax":
            return {"test": self._generate_examples("test")}
        kinds = ["_matched", "_mismatched"] if self.builder_config.name == "mnli" else [""]
        names = ["train", *(f"{split}{kind}" for split in ("validation", "test") for kind in kinds)]
        return {name: self._generate_examples(name) for name in names}

    def _generate_examples(self, split):
        name = self.builder_config.name
        for number in range(NUM_ROWS):
            label = stored_label(name, number)
            texts = {feature: f" {feature} {number} {label}, é " for feature in FEATURES[name]}
            yield number, {**texts, "label": -1 if "test" in split else label, "idx": number}


NUM_ROWS = 12


def stored_label(name, number):
    classes = CLASSES[name] or [0.5, 3.5]
    return classes[number % len(classes)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for name in set(CLASSES) - {"ax"}:
        Glue(config=name, data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def found_by_name(data_dir, monkeypatch):
    monkeypatch.setattr(tfds.core.utils.file_utils.constants, "DATA_DIR", str(data_dir))


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"ax"}))
def test_tfds_classes_are_read_by_name(name, data_dir, found_by_name):
    task = find_task(name)
    loaded = load_glue(task, "tfds:glue")
    assert loaded.splits == load_glue(task, f"tfds:glue/{name}").splits
    assert loaded.splits == load_glue(task, f"tfds:{data_dir}/glue/{name}/2.0.0").splits
    assert list(loaded.splits) == splits_of(task)
    glue_names = {"unacceptable": "0", "acceptable": "1"}
    if name == "wnli":
        glue_names = {"not_entailment": "0", "entailment": "1"}
    for split, examples in loaded.splits.items():
        # In the order of GLUE's file, by which predictions are submitted.
        assert [example.id for example in examples] == [str(row) for row in range(NUM_ROWS)]
        for number, example in enumerate(examples):
            stored = stored_label(name, number)
            assert example.texts == tuple(
                f"{feature} {number} {stored}, é" for feature in FEATURES[name]
            )
            if split in task.test:
                assert example.label is None
            elif name == "stsb":
                assert example.label == stored
            else:
                assert task.labels[example.label] == glue_names.get(stored, stored)


def test_the_fake_dataset_is_stored_in_another_order(found_by_name):
    for split in ("train", "validation", "test"):
        rows = [record["idx"] for _, record in read_table(f"tfds:glue/cola:{split}").rows]
        assert sorted(rows) == list(range(NUM_ROWS)) and rows != sorted(rows)


def test_predictions_from_tfds_are_submitted_by_the_rows_of_the_file(found_by_name, tmp_path):
    task = find_task("qnli")
    examples = load_glue(task, "tfds:glue").splits["test"]
    # What the texts say that they are.
    found = [task.labels.index(example.texts[0].split()[2].strip(",")) for example in examples]
    (path,) = write_predictions(tmp_path, task, "test", examples, Predictions(np.array(found)))
    assert path.read_text().splitlines()[1:] == [
        f"{row}\t{stored_label('qnli', row)}" for row in range(NUM_ROWS)
    ]


def test_the_diagnostic_set_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.utils.file_utils.constants, "DATA_DIR", str(tmp_path))
    for name in ("mnli", "ax"):
        Glue(config=name, data_dir=tmp_path, file_format="array_record").download_and_prepare()
    splits = load_glue(find_task("mnli"), "tfds:glue").splits
    assert splits == load_glue(find_task("mnli"), "tfds:glue/mnli").splits
    assert [example.id for example in splits[DIAGNOSTIC]] == [str(row) for row in range(NUM_ROWS)]
    assert splits[DIAGNOSTIC][4].texts == ("premise 4 neutral, é", "hypothesis 4 neutral, é")
    assert {example.label for example in splits[DIAGNOSTIC]} == {None}


def test_another_task_s_dataset_is_told(found_by_name):
    with pytest.raises(UserError, match=r"record 0 has '(un)?acceptable' as its label; of SST-2"):
        load_glue(find_task("sst2"), "tfds:glue/cola")
    with pytest.raises(UserError, match=r"has no column 'sentence1'.* it has "):
        load_glue(find_task("rte"), "tfds:glue/cola")
    with pytest.raises(UserError, match=r"has train, .* but no dev_matched and no dev_mismatched"):
        load_glue(find_task("mnli"), "tfds:glue/wnli")
    with pytest.raises(UserError, match="glue/rte is not in"):
        load_glue(find_task("rte"), "tfds:glue")
