"""Every config file can be used, and every setting does something."""

import ast
import dataclasses
import importlib.util
import pathlib

import pytest

from roberta_jax import config as config_module

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "roberta_jax"
CONFIG_FILES = sorted((ROOT / "configs" / "pretrain").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings():
    """(section, field) of every setting; the section of a top-level field is "config"."""
    paths = config_module.field_paths(config_module.PretrainConfig())
    return [tuple(path.split(".")) if "." in path else ("config", path) for path in paths]


def last_name(node):
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def reads(tree):
    """(owner, field) of every attribute that is read: `config.train.batch_size` is (train, …)."""
    return {
        (last_name(node.value), node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def reads_of_the_package():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "config.py":
            found |= reads(ast.parse(path.read_text()))
    return found


def sections_and_methods():
    """(section, method) → fields that a method of a config class reads, `validate` excepted."""
    tree = ast.parse((PACKAGE / "config.py").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    fields = {
        field.name: type(getattr(config_module.PretrainConfig(), field.name)).__name__
        for field in dataclasses.fields(config_module.PretrainConfig)
    }
    return {
        (section, method.name): {field for owner, field in reads(method) if owner == "self"}
        for section, name in fields.items()
        if name in classes
        for method in classes[name].body
        if isinstance(method, ast.FunctionDef) and method.name != "validate"
    }


def is_read(section, field, found):
    return any(
        name == field and (owner == section or "config" in owner.lower()) for owner, name in found
    )


def test_there_is_a_config_of_every_size():
    assert {path.stem for path in CONFIG_FILES} >= {"tiny", "small", "base", "large"}


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_config_loads_validates_and_survives_a_round_trip(path):
    module = load(path)
    assert module.__doc__, "a config is a recipe card: it says its command, hardware and result"
    config = module.get_config()
    config.validate()
    stored = config_module.to_dict(config)
    assert config_module.from_dict(config_module.PretrainConfig, stored) == config


@pytest.mark.parametrize(("section", "field"), settings())
def test_every_setting_is_read_somewhere(section, field):
    found = reads_of_the_package()
    through_methods = any(
        field in fields and is_read(section, method, found)
        for (owner, method), fields in sections_and_methods().items()
        if owner == section
    )
    assert through_methods or is_read(section, field, found), "an option that nothing reads"
