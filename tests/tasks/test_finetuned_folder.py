"""Folders of fine-tuning are told from others."""

import re

import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.finetuned_folder import (
    check_not_finetuned,
    is_finetuning_workdir,
    what_finetuning_wrote,
)


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("task.json", "a fine-tuned model"),
        ("model/task.json", "a fine-tuned model"),
        ("results.json", "a fine-tuning workdir"),
        ("sst2/trials/rate1e-05-batch8-seed0/settings.json", "a fine-tuning workdir"),
        ("config.json", ""),
        ("metrics.jsonl", ""),
        ("sst2/train.tsv", ""),
    ],
)
def test_a_folder_is_told_by_what_lies_in_it(tmp_path, file, what):
    write(tmp_path / "run" / file)
    assert what_finetuning_wrote(tmp_path / "run") == what
    assert is_finetuning_workdir(str(tmp_path / "run")) == (what == "a fine-tuning workdir")
    if not what:
        check_not_finetuned(tmp_path / "run")
        return
    way_out = f"is {what}, .* `roberta-jax predict --model={re.escape(str(tmp_path / 'run'))}`"
    with pytest.raises(UserError, match=way_out):
        check_not_finetuned(tmp_path / "run")


def test_what_is_not_there_is_neither(tmp_path):
    assert what_finetuning_wrote(tmp_path / "nowhere") == ""
    write(tmp_path / "file")
    assert what_finetuning_wrote(tmp_path / "file") == ""


def test_a_pretraining_run_in_which_a_task_was_run_as_well_is_one(tmp_path):
    for name in ("config.json", "results.json"):
        write(tmp_path / name)
    assert not is_finetuning_workdir(tmp_path) and what_finetuning_wrote(tmp_path) == ""
