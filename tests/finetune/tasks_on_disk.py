"""Files of small tasks in the formats of GLUE and SQuAD, and a run of fine-tuning on them."""

import json

import numpy as np

from roberta_jax import config as c
from tests.train.runs import WORDS


def write_sst2(folder, *, num_train=48, num_dev=24, test=True):
    """Sentences of the first half of the words are of class 1, those of the others of class 0."""
    target = folder / "SST-2"
    target.mkdir(parents=True)
    generator = np.random.Generator(np.random.Philox(key=5))

    def rows(count):
        for number in range(count):
            half = len(WORDS) // 2
            known = WORDS[:half] if number % 2 else WORDS[half:]
            yield " ".join(generator.choice(known, 6)), number % 2

    for name, count in (("train", num_train), ("dev", num_dev)):
        lines = [f"{text}\t{label}" for text, label in rows(count)]
        (target / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    if test:
        lines = [f"{number}\t{text}" for number, (text, _) in enumerate(rows(10))]
        (target / "test.tsv").write_text("\n".join(["index\tsentence", *lines]) + "\n")
    return folder


def write_rte(folder):
    """Whether the second text is a word of the first."""
    target = folder / "RTE"
    target.mkdir(parents=True)
    for name in ("train", "dev"):
        lines = [
            f"{n}\t{WORDS[n]} {WORDS[n + 1]}\t{WORDS[n + n % 2 * 2]}\t{'not_' * (n % 2)}entailment"
            for n in range(8)
        ]
        head = "index\tsentence1\tsentence2\tlabel"
        (target / f"{name}.tsv").write_text("\n".join([head, *lines]) + "\n")
    return folder


def write_squad(folder, *, unanswerable=True):
    """Questions for a word of a passage, and questions without an answer."""
    folder.mkdir(parents=True)
    passage = "The old river carried the small house over the stone bridge. " * 3
    for name in ("train", "dev"):
        questions = []
        for number, word in enumerate(("river", "house", "bridge", "stone")):
            answer = {"text": word, "answer_start": passage.index(word)}
            questions.append(
                {"id": f"{name}{number}", "question": f"What {word}?", "answers": [answer]}
            )
            if unanswerable:
                questions[-1]["is_impossible"] = False
                questions.append(
                    {
                        "id": f"{name}{number}x",
                        "question": f"Why {word} Monday?",
                        "answers": [],
                        "is_impossible": True,
                    }
                )
        paragraphs = [{"context": passage, "qas": questions}]
        content = {"version": "v2.0", "data": [{"title": "T", "paragraphs": paragraphs}]}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def write_race(folder):
    """Questions after the word that stands at a place of the article; 9 of middle, 5 of high."""
    for split in ("train", "dev", "test"):
        for group, count in (("middle", 9), ("high", 5)):
            (folder / split / group).mkdir(parents=True)
            for number in range(count):
                options = [WORDS[(number + place) % len(WORDS)] for place in range(4)]
                article = {
                    "article": f"The {options[number % 4]}.",
                    "questions": ["What is it?"],
                    "options": [options],
                    "answers": ["ABCD"[number % 4]],
                    "id": f"{group}{number}.txt",
                }
                path = folder / split / group / f"{number}.txt"
                path.write_text(json.dumps(article))
    return folder


def finetune_config(data, *, task="sst2", **changes):
    """A run of a few steps; `changes` are section__field=value."""
    config = c.FinetuneConfig(
        task=task,
        seed=3,
        num_seeds=2,
        data=c.TaskDataConfig(path=str(data)),
        # So much that within two epochs seeds and evaluations come to differ.
        optimizer=c.OptimizerConfig(peak_learning_rate=1e-2, weight_decay=0.1),
        mesh=c.MeshConfig(data=8),
        fit=c.FitConfig(epochs=2.0, batch_size=8, log_every_steps=4),
    )
    for path, value in changes.items():
        section, _, field = path.rpartition("__")
        setattr(getattr(config, section) if section else config, field, value)
    return config
