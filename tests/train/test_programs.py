"""What is compiled is kept where a restart finds it."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from roberta_jax.train.programs import compile_step, kept_programs
from tests.train import runs


@pytest.fixture
def no_cache(programs):
    """jax as a user has it: nothing is kept; every program is worth keeping."""
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    runs.remember_programs(programs)


def compile_something(number):
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    return jax.jit(lambda x: jnp.tanh(x) * number).lower(shape).compile()


def test_programs_are_kept_in_the_folder_and_only_meanwhile(no_cache, tmp_path):
    folder = tmp_path / "run" / "compilation_cache"
    compile_something(1.5)
    with kept_programs(folder):
        compile_something(2.5)
        assert len(list(folder.glob("*-cache"))) == 1
    compile_something(3.5)
    assert len(list(folder.glob("*-cache"))) == 1
    assert jax.config.values["jax_compilation_cache_dir"] is None


@pytest.mark.slow
def test_a_restart_finds_them(no_cache, tmp_path):
    found = []
    jax.monitoring.register_event_listener(lambda event, **values: found.append(event))
    for hits in (0, 1):
        found.clear()
        jax.clear_caches()
        with kept_programs(tmp_path):
            compile_something(4.5)
        assert found.count("/jax/compilation_cache/cache_hits") == hits


def test_a_place_of_the_users_own_is_used_instead(tmp_path, programs):
    before = jax.config.values["jax_compilation_cache_dir"]
    assert before == str(programs)
    with kept_programs(tmp_path / "ours"):
        compile_something(5.5)
        assert jax.config.values["jax_compilation_cache_dir"] == before
    assert not (tmp_path / "ours").exists()


def test_the_times_are_those_of_lowering_and_of_compiling(monkeypatch):
    clock = iter([10.0, 11.5, 16.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    compiled = compile_step(runs.Uncompiled(lambda state, batch: (state, batch)), None, {})
    assert (compiled.lowering_seconds, compiled.compiling_seconds) == (1.5, 4.5)
    assert compiled.run(1, 2) == (1, 2)
