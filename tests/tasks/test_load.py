import json

import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS, find_task
from roberta_jax.tasks.load import load_splits
from roberta_jax.tasks.task import Task


def test_every_published_task_has_a_loader(tmp_path):
    for task in TASKS.values():
        with pytest.raises(UserError, match=f"no .*{task.title}"):
            load_splits(task, str(tmp_path))


def test_a_task_is_read_by_its_own_loader(tmp_path):
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tfine\n")
    loaded = load_splits(find_task("sst2"), str(tmp_path), for_training=False)
    assert loaded.splits["test"][0].texts == ("fine",)
    qas = [{"id": "q", "question": "Wo?", "answers": [{"text": "da", "answer_start": 0}]}]
    content = {"data": [{"paragraphs": [{"context": "da", "qas": qas}]}]}
    (tmp_path / "dev.json").write_text(json.dumps(content))
    loaded = load_splits(find_task("squad1"), str(tmp_path), for_training=False)
    assert loaded.splits["dev"][0].answers[0].text == "da"


def test_a_task_of_one_s_own_is_not_published(tmp_path):
    with pytest.raises(UserError, match="'table' is no published task"):
        load_splits(Task(name="table", title="x", kind="regression"), str(tmp_path))
