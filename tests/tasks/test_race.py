import json

import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.race import load_race

RACE = find_task("race")
CONTENT = {
    "article": "An article.",
    "questions": ["It is _ .", "What is it?"],
    "options": [["red", "blue", "green", "black"], ["a", "b", "c", "d"]],
    "answers": ["B", "D"],
    "id": "high1.txt",
}


def write(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in {**CONTENT, **changes}.items() if value is not None}
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "dev", "test"):
        for group in ("high", "middle"):
            for number in (1, 2, 10):
                write(tmp_path / split / group / f"{number}.txt", id=f"{group}{number}.txt")
    return tmp_path


def test_an_option_takes_the_place_of_the_gap_or_stands_behind_the_question(folder):
    loaded = load_race(RACE, str(folder))
    assert list(loaded.splits) == ["train", "dev", "test"]
    first, second = loaded.splits["train"][:2]
    assert first.options == ("It is red .", "It is blue .", "It is green .", "It is black .")
    assert second.options == tuple(f"What is it? {letter}" for letter in "abcd")
    assert (first.label, second.label) == (1, 3)
    assert first.passage == "An article." and first.id == "middle1.txt-0"


def test_an_article_is_one_line(folder):
    write(folder / "dev" / "middle" / "1.txt", article="One.\nTwo.\n\nThree.")
    loaded = load_race(RACE, str(folder)).splits
    assert loaded["dev"][0].passage == "One. Two.  Three."
    assert loaded["test"][0].label == 1 and not load_race(RACE, str(folder)).notes


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_groups_are_the_folders(folder, split):
    examples = load_race(RACE, str(folder)).splits[split]
    assert [example.group for example in examples] == ["middle"] * 6 + ["high"] * 6
    numbers = [example.id for example in examples[::2]]
    assert numbers == [f"{g}{n}.txt" + "-0" for g in ("middle", "high") for n in (1, 2, 10)]


def test_a_test_split_may_have_no_answers(folder):
    write(folder / "test" / "high" / "1.txt", answers=None)
    loaded = load_race(RACE, str(folder))
    assert {example.label for example in loaded.splits["test"]} == {None}
    assert loaded.notes == (
        "test: 2 of 12 questions have no answer, so those of the others are not used either.",
    )
    for path in (folder / "test").glob("*/*.txt"):
        write(path, answers=None)
    assert not load_race(RACE, str(folder)).notes
    write(folder / "dev" / "high" / "1.txt", answers=None)
    with pytest.raises(UserError, match=r"2 questions, 2 groups of options and 0 answers"):
        load_race(RACE, str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": ["B", "E"]}, "answer of question 1 is 'E' and must be one of A, B, C, D"),
        ({"answers": ["B"]}, "2 questions, 2 groups of options and 1 answer\\."),
        ({"options": [["a", "b"], "c"]}, "must be texts and lists of texts"),
        ({"article": 3}, "must be texts and lists of texts"),
        ({"article": None, "options": None}, "it has no article and no options"),
    ],
)
def test_a_file_that_is_no_exam_is_told(folder, changes, message):
    write(folder / "train" / "high" / "2.txt", **changes)
    with pytest.raises(UserError, match=rf"2.txt is not laid out as RACE's files: .*{message}"):
        load_race(RACE, str(folder))


def test_what_is_not_there_is_told(folder):
    (folder / "dev").rename(folder / "elsewhere")
    with pytest.raises(UserError, match="has no dev of RACE"):
        load_race(RACE, str(folder))
    assert list(load_race(RACE, str(folder), for_training=False).splits) == ["train", "test"]
    for path in (folder / "test").glob("*/*.txt"):
        write(path, questions=[], options=[], answers=[])
    with pytest.raises(UserError, match="The files of test in .* have no questions"):
        load_race(RACE, str(folder), for_training=False)
    (folder / "train" / "high" / "1.txt").write_text("[]")
    with pytest.raises(UserError, match="it is a JSON list"):
        load_race(RACE, str(folder), for_training=False)
    with pytest.raises(UserError, match="has no train and no dev and no test of RACE"):
        load_race(RACE, str(folder / "none"), for_training=False)


def test_tfds_is_refused(folder):
    with pytest.raises(UserError, match="from its own folders only.*TensorFlow"):
        load_race(RACE, "tfds:race/high")
