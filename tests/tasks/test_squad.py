import json
import lzma

import numpy as np
import pytest
import tensorflow_datasets as tfds

from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.examples import Answer, QuestionExample
from roberta_jax.tasks.squad import load_squad

SQUAD1, SQUAD2 = find_task("squad1"), find_task("squad2")
PASSAGE = "Das Haus 𝔸 steht am Fluß. Der Fluß fließt."  # 𝔸 is one code point, two UTF-16 units.


def qa(number, *answers, **more):
    stored = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": f"q{number}", "question": f"Wo {number}?", "answers": stored, **more}


def write(path, *questions, title="Haus", passage=PASSAGE):
    paragraphs = [{"context": passage, "qas": list(questions)}]
    content = {"version": "x", "data": [{"title": title, "paragraphs": paragraphs}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


RIVER = ("Fluß", PASSAGE.index("Fluß"))
IMPOSSIBLE = {"is_impossible": True, "plausible_answers": [{"text": "Haus", "answer_start": 4}]}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train.json", qa(1, RIVER), qa(2, **IMPOSSIBLE))
    write(tmp_path / "dev.json", qa(3, RIVER, ("am Fluß", 17)), qa(4, **IMPOSSIBLE))
    return tmp_path


def test_questions_have_their_passage_and_answers_at_code_points(folder):
    loaded = load_squad(SQUAD2, str(folder))
    assert not loaded.notes and list(loaded.splits) == ["train", "dev"]
    train, dev = loaded.splits["train"], loaded.splits["dev"]
    assert train[0] == QuestionExample("q1", "Wo 1?", PASSAGE, (Answer(*RIVER),), "Haus")
    assert train[1].answers == ()
    assert [answer.text for answer in dev[0].answers] == ["Fluß", "am Fluß"]
    for example in (*train, *dev):
        for answer in example.answers:
            assert PASSAGE[answer.start :].startswith(answer.text)


def test_squad_1_leaves_out_what_has_no_answer(folder):
    write(folder / "test.json", {"id": "t", "question": "Was?"})
    loaded = load_squad(SQUAD1, str(folder))
    assert {name: len(split) for name, split in loaded.splits.items()} == dict.fromkeys(
        ("train", "dev", "test"), 1
    )
    assert loaded.splits["test"][0].answers == ()
    assert len(loaded.notes) == 2
    assert "train.json: 1 question without an answer was left out; SQuAD 1.1 has" in loaded.notes[0]
    assert "(q2)" in loaded.notes[0] and "SQuAD 1.1" in loaded.notes[0]


def test_an_answer_that_is_not_at_its_offset_is_not_trained_on(folder):
    wrong = ("Fluß", RIVER[1] + 1)
    write(
        folder / "train.json",
        qa(1, RIVER),
        qa(2, wrong, RIVER),
        qa(3, wrong, ("Fluß", -5)),
        qa(4, ("Fluß", 10**9)),
        qa(5, ("", 3)),
        qa(6, (" ", 3)),
    )
    loaded = load_squad(SQUAD2, str(folder))
    train = loaded.splits["train"]
    assert [(example.id, example.answers) for example in train] == [
        ("q1", (Answer(*RIVER),)),
        ("q2", (Answer(*RIVER),)),
    ]
    wanted = "6 answers are not at their offset in the passage; left out of training (q2, q3, q4,"
    assert wanted in loaded.notes[0]
    assert "4 questions were left out because" in loaded.notes[1]
    assert "(q3, q4, q5, q6)" in loaded.notes[1]


def test_an_answer_that_is_not_at_its_offset_is_judged_by_its_text(folder):
    write(folder / "dev.json", qa(3, ("Fluß", 0), RIVER), qa(4, ("Meer", 0)))
    loaded = load_squad(SQUAD2, str(folder))
    assert [example.answers for example in loaded.splits["dev"]] == [
        (Answer("Fluß", -1), Answer(*RIVER)),
        (Answer("Meer", -1),),
    ]
    (note,) = loaded.notes
    assert "2 answers are not at their offset" in note and note.endswith(
        "; judged by text all the same (q3, q4)."
    )


def test_notes_name_the_first_ids_only(folder):
    write(folder / "train.json", qa(0, RIVER), *(qa(i, ("x", 0)) for i in range(1, 9)))
    assert "8 questions" in load_squad(SQUAD2, str(folder)).notes[1]
    assert "(q1, q2, q3, q4, q5, …)" in load_squad(SQUAD2, str(folder)).notes[1]


@pytest.mark.parametrize(("task", "version"), [(SQUAD1, "1.1"), (SQUAD2, "2.0")])
def test_the_published_names_of_the_files_are_found(folder, task, version):
    wanted = load_squad(task, str(folder)).splits
    (folder / "train.json").rename(folder / f"train-v{version}.json")
    packed = lzma.compress((folder / "dev.json").read_bytes())
    (folder / f"dev-v{version}.json.xz").write_bytes(packed)
    (folder / "dev.json").unlink()
    assert load_squad(task, str(folder)).splits == wanted


def test_what_is_not_there_is_told(folder):
    (folder / "dev.json").unlink()
    with pytest.raises(UserError, match=r"has no dev of SQuAD 2.0; .* dev.json or dev-v2.0.json"):
        load_squad(SQUAD2, str(folder))
    assert list(load_squad(SQUAD2, str(folder), for_training=False).splits) == ["train"]
    with pytest.raises(UserError, match="which is no folder"):
        load_squad(SQUAD2, str(folder / "train.json"))
    file = load_squad(SQUAD2, str(folder / "train.json"), for_training=False)
    assert len(file.splits["dev"]) == 2
    write(folder / "dev.json")
    with pytest.raises(UserError, match="no question that can be used"):
        load_squad(SQUAD2, str(folder))
    with pytest.raises(UserError, match="no question that can be used.*2 questions without"):
        write(folder / "train.json", qa(1, **IMPOSSIBLE), qa(2))
        load_squad(SQUAD1, str(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [', "is not JSON, or cut off"),
        (b"\xff", "not valid UTF-8 at byte 0"),
        (b'["\\ud800"]', "is not JSON.*surrogates"),
        (b"[]", "not laid out as SQuAD's JSON: the file is not as there"),
        (b"{}", "not laid out as SQuAD's JSON: the file has no 'data'"),
        (b'{"data": [{"title": "T"}]}', "the article 'T' has no 'paragraphs'"),
        (
            b'{"data": [{"paragraphs": [{"context": 3, "qas": [{"id": "q", "question": "a"}]}]}]}',
            "the question 'q' is not as there",
        ),
    ],
)
def test_a_file_that_is_no_squad_is_told(folder, content, message):
    (folder / "train.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_squad(SQUAD2, str(folder))


class Squad(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("3.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("v1.1", "v2.0")]

    def _info(self):
        answers = tfds.features.Sequence({"text": tfds.features.Text(), "answer_start": np.int32})
        features = {
            "id": np.str_,
            "title": tfds.features.Text(),
            "context": tfds.features.Text(),
            "question": tfds.features.Text(),
            "answers": answers,
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, download_manager):
        return {name: self._generate_examples() for name in ("train", "validation")}

    def _generate_examples(self):
        for i, answers in enumerate([[RIVER, ("Haus", 4)], []]):
            stored = {"text": [a for a, _ in answers], "answer_start": [s for _, s in answers]}
            yield (
                i,
                {
                    **{"id": f"q{i}", "title": "Haus", "context": PASSAGE, "question": "Wo?"},
                    "answers": stored,
                },
            )


def test_tfds_has_the_same_questions(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.utils.file_utils.constants, "DATA_DIR", str(tmp_path))
    for name in ("v1.1", "v2.0"):
        Squad(config=name, data_dir=tmp_path, file_format="array_record").download_and_prepare()
    loaded = load_squad(SQUAD2, "tfds:squad")
    assert list(loaded.splits) == ["train", "dev"]
    answers = (Answer(*RIVER), Answer("Haus", 4))
    assert loaded.splits["train"] == [
        QuestionExample("q0", "Wo?", PASSAGE, answers, "Haus"),
        QuestionExample("q1", "Wo?", PASSAGE, (), "Haus"),
    ]
    assert all(type(a.start) is int for a in loaded.splits["train"][0].answers)
    assert loaded == load_squad(SQUAD2, "tfds:squad/v2.0")
    assert len(load_squad(SQUAD1, "tfds:squad").splits["train"]) == 1
