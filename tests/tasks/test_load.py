import json

import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS, find_task
from roberta_jax.tasks.load import load_splits
from roberta_jax.tasks.task import Task

_QAS = [{"id": "q", "question": "Wo?", "answers": [{"text": "da", "answer_start": 0}]}]
QUESTION = json.dumps({"data": [{"paragraphs": [{"context": "da", "qas": _QAS}]}]})
ARTICLE = json.dumps(
    {"article": "Da.", "questions": ["Wo?"], "options": [["a", "b"]], "answers": ["A"]}
)


def test_every_published_task_has_a_loader(tmp_path):
    for task in TASKS.values():
        with pytest.raises(UserError, match=f"no .*{task.title}"):
            load_splits(task, str(tmp_path))


def test_a_task_is_read_by_its_own_loader(tmp_path):
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tfine\n")
    loaded = load_splits(find_task("sst2"), str(tmp_path), for_training=False)
    assert loaded.splits["test"][0].texts == ("fine",)
    (tmp_path / "dev.json").write_text(QUESTION)
    loaded = load_splits(find_task("squad1"), str(tmp_path), for_training=False)
    assert loaded.splits["dev"][0].answers[0].text == "da"


@pytest.mark.parametrize(
    ("name", "damaged", "intact", "content"),
    [
        ("sst2", "train.tsv", "test.tsv", "index\tsentence\n0\tfine\n"),
        ("race", "train/high/1.txt", "test/high/1.txt", ARTICLE),
        ("squad2", "train.json", "dev.json", QUESTION),
    ],
)
def test_only_splits_that_are_chosen_are_read(tmp_path, name, damaged, intact, content):
    for file, text in ((damaged, "?"), (intact, content)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    task, asked = find_task(name), []

    def choose(there):
        asked.append(there)
        return there[1:]

    loaded = load_splits(task, str(tmp_path), for_training=False, choose=choose)
    (split,) = loaded.splits
    assert asked == [["train", split]] and intact.startswith(split)
    assert len(loaded.splits[split]) == 1
    with pytest.raises(UserError, match="train"):
        load_splits(task, str(tmp_path), for_training=False)


def test_a_task_of_one_s_own_is_not_published(tmp_path):
    with pytest.raises(UserError, match="'table' is no published task"):
        load_splits(Task(name="table", title="x", kind="regression"), str(tmp_path))
