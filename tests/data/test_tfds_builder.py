import json
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from roberta_jax.data.corpus import read_documents
from roberta_jax.data.inputs import find_files
from roberta_jax.data.tfds_builder import RobertaJaxText, TextConfig
from roberta_jax.errors import UserError

TEXTS = ["One.\n\n Two é.", " \n", "Three.", "한국어 문장.\nالعربية.", "Five." * 20_000, "Six."]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    return str(path)


def build(tmp_path, **settings):
    config = TextConfig(name="mine", text_field="body", **settings)
    builder = RobertaJaxText(config=config, data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    return builder


def test_a_corpus_is_an_ordinary_dataset(tmp_path, corpus):
    builder = build(tmp_path, inputs=(corpus,))
    assert builder.info.full_name == "roberta_jax_text/mine/1.0.0"
    records = list(builder.as_data_source("train"))
    assert [record["text"].decode() for record in records] == [
        "One.\nTwo é.",
        "Three.",
        TEXTS[3],
        TEXTS[4],  # Larger than the pieces that documents are read in.
        "Six.",
    ]
    assert records[1]["source"].decode() == f"{corpus}:3"
    # What is prepared reads the same documents.
    split = f"tfds:{builder.data_path}:train"
    before = [d.sentences for d in read_documents(find_files([corpus]), text_field="body")]
    assert [d.sentences for d in read_documents(find_files([split]))] == before


def test_it_opens_without_our_code_and_without_tensorflow(tmp_path, corpus):
    build(tmp_path, inputs=(corpus,))
    code = (
        "import sys, tensorflow_datasets as tfds;"
        f"s = tfds.data_source('roberta_jax_text/mine', split='train[:40%]', "
        f"data_dir={str(tmp_path / 'tfds')!r});"
        "assert [r['text'] for r in s][1] == b'Three.' and len(s) == 2;"
        "assert not {'tensorflow', 'roberta_jax', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_splits_are_told_by_share_or_by_input(tmp_path, corpus):
    shared = build(tmp_path / "share", inputs=(corpus,), validation_fraction=0.4)
    counts = {name: split.num_examples for name, split in shared.info.splits.items()}
    assert counts == {"train": 3, "validation": 2}
    texts = {name: {r["text"] for r in shared.as_data_source(name)} for name in counts}
    assert not texts["train"] & texts["validation"]
    given = build(tmp_path / "input", inputs=(corpus,), validation_inputs=(corpus,))
    assert given.info.splits["validation"].num_examples == 5
    with pytest.raises(UserError, match="not both"):
        build(
            tmp_path / "both",
            inputs=(corpus,),
            validation_inputs=(corpus,),
            validation_fraction=0.1,
        )


def test_the_builder_is_registered_by_its_name(tmp_path):
    config = TextConfig(name="mine", inputs=())
    builder = tfds.builder("roberta_jax_text", config=config, data_dir=tmp_path)
    assert isinstance(builder, RobertaJaxText)
