import json

import pytest

from roberta_jax.data.manifest import Manifest
from roberta_jax.errors import UserError


def test_a_manifest_survives_its_file(dataset_folder, tmp_path):
    manifest = Manifest.load(dataset_folder)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest


def test_another_format_version_is_refused(dataset_folder, tmp_path):
    values = json.loads((dataset_folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**values, "format_version": 1}))
    with pytest.raises(
        UserError, match="format_version 1, and this version of roberta_jax reads 2"
    ):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("key", ["splits", "tokenizer", "dtype"])
def test_a_missing_key_is_damage(dataset_folder, tmp_path, key):
    values = json.loads((dataset_folder / "manifest.json").read_text())
    del values[key]
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=f"damaged.*{key}"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"manifest\.json"):
        Manifest.load(tmp_path)
