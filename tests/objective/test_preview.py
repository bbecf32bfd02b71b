import re

import numpy as np

from roberta_jax.config import MaskingConfig
from roberta_jax.data.records import open_dataset
from roberta_jax.objective.preview import masked_texts, preview
from tests.train.runs import make_dataset


def test_rows_are_shown_as_the_run_would_mask_them(tmp_path):
    folder = make_dataset(tmp_path)
    dataset = open_dataset(folder, "train")
    index = np.array([0, 5])
    config = MaskingConfig()
    texts = masked_texts(dataset, index, config=config, seed=3, epoch=0)
    tokenizer = dataset.tokenizer()
    for row, text in zip(dataset.read(index), texts, strict=True):
        holes = re.findall(r"\[(.*?)\]", text)
        ordinary = sum(i not in tokenizer.special_ids for i in row.tolist())
        assert len(holes) == round(0.15 * ordinary)
        # With the originals in the holes, it is the row.
        whole = re.sub(r"\[(?:[^\]]*→)?(.*?)\]", r"\1", text)
        real = [i for i in row.tolist() if i != tokenizer.pad_id]
        assert whole == "".join(map(tokenizer.token_text, real))
    assert any("<mask>→" in text for text in texts)
    assert texts == masked_texts(dataset, index, config=config, seed=3, epoch=0)
    assert texts != masked_texts(dataset, index, config=config, seed=3, epoch=1)
    assert texts != masked_texts(dataset, index, config=config, seed=4, epoch=0)


def test_a_preview_names_rows_and_labels(tmp_path):
    folder = make_dataset(tmp_path, format="sentence_pair", sequence_length=64)
    lines = list(preview(str(folder), "train", num_rows=3, seed=0, epoch=0))
    titles = [line for line in lines if line.startswith("train row")]
    assert len(titles) == 3
    assert all(re.search(r"row \d+ \((next|random)(, (next|random))*\):", line) for line in titles)
    dataset = open_dataset(make_dataset(tmp_path / "other", validation=0), "validation")
    assert len(dataset) == 0
    (line,) = preview(str(tmp_path / "other/dataset"), "validation", num_rows=3, seed=0, epoch=0)
    assert line == "The validation split has no rows."
