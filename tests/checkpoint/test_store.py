"""Saves in the background, restores that are verified, damage that is seen and said."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.checkpoint.store import COMMIT_MARKER, CheckpointStore, DamagedCheckpointError
from roberta_jax.config import CheckpointConfig
from roberta_jax.errors import MachineError, UserError

KEEP_ALL = CheckpointConfig(keep_last=100)
SPECS = {"w": P("data", "tensor"), "b": P("tensor"), "step": P(), "scale": P()}


def make_mesh(*shape):
    devices = jax.devices()[: int(np.prod(shape))]
    axes = ("data", "fsdp", "tensor")
    return jax.make_mesh(shape, axes, devices=devices, axis_types=(AxisType.Auto,) * 3)


MESH = make_mesh(8, 1, 1)


def make_state(seed, mesh=MESH):
    generator = np.random.Generator(np.random.Philox(key=seed))
    arrays = {
        "w": generator.normal(size=(64, 32)).astype(np.float32),
        "b": generator.normal(size=(32,)).astype(np.float32),
        "step": np.int32(seed),
        "scale": np.float32([-0.0, np.inf, 1e-42, 3.0]),
    }
    return {
        name: jax.device_put(array, NamedSharding(mesh, SPECS[name]))
        for name, array in arrays.items()
    }


def target(mesh=MESH):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), make_state(0, mesh)
    )


def bits(state):
    return {name: np.asarray(leaf).tobytes() for name, leaf in state.items()}


@pytest.fixture
def folder(tmp_path):
    """Checkpoints 1, 2 and 3 of the states 1, 2 and 3."""
    with CheckpointStore(tmp_path / "checkpoints", KEEP_ALL) as store:
        for step in (1, 2, 3):
            store.save(step, make_state(step), {"note": step, "loss": 0.1 + 0.2})
    return tmp_path / "checkpoints"


def newest(folder):
    """(step, lines said) of the restore of a run."""
    said = []
    with CheckpointStore(folder, KEEP_ALL) as store:
        restored = store.restore_newest(target(), said.append)
    assert bits(restored.state) == bits(make_state(restored.step))
    assert restored.record["note"] == restored.step
    return restored.step, said


def array_files(folder, step):
    return sorted((folder / str(step) / "state").glob("**/d/*"))


def test_what_was_saved_is_restored_bit_for_bit_with_its_record(folder):
    with CheckpointStore(folder) as store:
        assert store.steps() == [1, 2, 3]
        restored = store.restore(2, target())
    assert bits(restored.state) == bits(make_state(2))
    assert restored.record["note"] == 2 and restored.record["loss"] == 0.1 + 0.2


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 1, 1), (1, 1, 8), (4, 2, 1)], ids=str)
def test_another_mesh_gets_the_same_arrays(folder, shape):
    mesh = make_mesh(*shape)
    with CheckpointStore(folder) as store:
        restored = store.restore(3, target(mesh))
    assert bits(restored.state) == bits(make_state(3))
    assert restored.state["w"].sharding == NamedSharding(mesh, SPECS["w"])


def test_a_small_mesh_saves_for_a_large_one(tmp_path):
    with CheckpointStore(tmp_path, KEEP_ALL) as store:
        store.save(4, make_state(4, make_mesh(1, 1, 1)), {})
    with CheckpointStore(tmp_path) as store:
        assert bits(store.restore(4, target()).state) == bits(make_state(4))


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path):
    @jax.jit
    def make():
        return {"w": jnp.arange(1 << 20, dtype=jnp.float32)}

    overwrite = jax.jit(lambda state: {"w": state["w"] * -1.0}, donate_argnums=0)
    state = make()
    wanted = np.arange(1 << 20, dtype=np.float32)
    with CheckpointStore(tmp_path, KEEP_ALL) as store:
        store.save(1, state, {})
        for _ in range(5):
            state = overwrite(state)
        jax.block_until_ready(state)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = {"w": jax.ShapeDtypeStruct(wanted.shape, wanted.dtype, sharding=sharding)}
    with CheckpointStore(tmp_path) as store:
        np.testing.assert_array_equal(store.restore(1, shapes).state["w"], wanted)


def test_a_folder_that_is_not_there_has_no_checkpoints_and_is_not_made(tmp_path):
    with CheckpointStore(tmp_path / "none") as store:
        assert store.steps() == [] and store.set_aside() == []
        assert store.restore_newest(target()) is None
    assert not (tmp_path / "none").exists()


def test_opening_to_read_changes_nothing_and_says_nothing(folder, caplog):
    (folder / "9").mkdir()
    before = sorted(folder.rglob("*"))
    with CheckpointStore(folder) as store:
        store.restore(3, target())
    assert sorted(folder.rglob("*")) == before
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


# ---- Damage ------------------------------------------------------------------------------------


def flip(path, place=0.5, mask=0x10):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= mask
    path.write_bytes(bytes(content))


def flip_arrays(folder, step):
    for path in array_files(folder, step):
        flip(path)


def truncate_arrays(folder, step):
    for path in array_files(folder, step):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_arrays(folder, step):
    for path in array_files(folder, step):
        path.write_bytes(b"")


def delete_arrays(folder, step):
    for path in array_files(folder, step):
        path.unlink()


def delete_state(folder, step):
    shutil.rmtree(folder / str(step) / "state")


def delete_record(folder, step):
    shutil.rmtree(folder / str(step) / "record")


def empty_record(folder, step):
    (folder / str(step) / "record" / "metadata").write_text("")


def change_record(folder, step):
    path = folder / str(step) / "record" / "metadata"
    path.write_text(path.read_text().replace(f'"note": {step}', '"note": 8'))


def record_of_nothing(folder, step):
    (folder / str(step) / "record" / "metadata").write_text("{}")


def flip_the_index(folder, step):
    flip(folder / str(step) / "state" / "manifest.ocdbt")


def only_the_marker(folder, step):
    shutil.rmtree(folder / str(step))
    (folder / str(step)).mkdir()
    (folder / str(step) / COMMIT_MARKER).write_text("")


DAMAGES = [
    *(flip_arrays, truncate_arrays, empty_arrays, delete_arrays, delete_state, delete_record),
    *(empty_record, change_record, record_of_nothing, flip_the_index, only_the_marker),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(folder, damage):
    damage(folder, 3)
    step, said = newest(folder)
    assert step == 2
    (line,) = said
    assert f"Checkpoint {folder / '3'} is damaged: " in line and "\n" not in line
    assert line.endswith("It was set aside as 3.damaged.")
    assert (folder / "3.damaged").is_dir() and not (folder / "3").exists()
    assert newest(folder) == (2, [])  # It is not looked at again.


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_that_was_asked_for_is_named_and_stays(folder, damage):
    damage(folder, 2)
    with CheckpointStore(folder) as store, pytest.raises(UserError) as caught:
        store.restore(2, target())
    assert str(caught.value).startswith(f"Checkpoint {folder / '2'} is damaged: ")
    assert (folder / "2").is_dir()


def test_no_flipped_bit_restores_other_weights(folder):
    """Wherever it is: either the restore refuses, or the arrays are the saved ones."""
    generator = np.random.Generator(np.random.Philox(key=5))
    refused = 0
    for path in array_files(folder, 3) * 3:
        content = path.read_bytes()
        flip(path, generator.random(), 1 << int(generator.integers(8)))
        with CheckpointStore(folder) as store:
            try:
                assert bits(store.restore(3, target()).state) == bits(make_state(3))
            except UserError:
                refused += 1
        path.write_bytes(content)
    assert refused > 0
    assert newest(folder) == (3, [])


def test_every_damaged_checkpoint_is_said_on_the_way(folder):
    flip_arrays(folder, 3)
    delete_record(folder, 2)
    step, said = newest(folder)
    assert step == 1
    assert [line.split()[-1] for line in said] == ["3.damaged.", "2.damaged."]


def test_without_a_good_one_it_is_an_error_and_never_a_fresh_start(folder):
    for step in (1, 2, 3):
        truncate_arrays(folder, step)
    for _ in range(2):
        with CheckpointStore(folder, KEEP_ALL) as store:
            with pytest.raises(UserError, match="This is not a fresh start") as caught:
                store.restore_newest(target(), lambda line: None)
            assert caught.value.exit_code == 2
            assert "can be restored: 3, 2, 1. Checkpoint" in str(caught.value)
            assert "nothing was changed" in str(caught.value)
            assert store.steps() == [1, 2, 3] and store.set_aside() == []
    (folder / "3").rename(folder / "3.damaged")  # Of an earlier run.
    shutil.rmtree(folder / "2")
    shutil.rmtree(folder / "1")
    with CheckpointStore(folder, KEEP_ALL) as store, pytest.raises(UserError, match=r"3\.damaged"):
        store.restore_newest(target(), lambda line: None)


def test_a_step_damaged_again_gets_a_name_of_its_own(folder):
    flip_arrays(folder, 3)
    newest(folder)
    with CheckpointStore(folder, KEEP_ALL) as store:
        store.save(3, make_state(3), {"note": 3})
    flip_arrays(folder, 3)
    assert newest(folder)[1][0].endswith("3.damaged-1.")


@pytest.mark.parametrize("content", ["nothing", "all but the marker"])
def test_a_folder_without_its_marker_is_no_checkpoint_and_makes_room(folder, content):
    if content == "nothing":
        (folder / "4").mkdir()
    else:
        shutil.copytree(folder / "3", folder / "4")
        (folder / "4" / COMMIT_MARKER).unlink()
    with CheckpointStore(folder) as store:
        assert store.steps() == [1, 2, 3]
    assert newest(folder) == (3, [])
    with CheckpointStore(folder, KEEP_ALL) as store:
        store.save(4, make_state(4), {"note": 4})
    assert newest(folder) == (4, [])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
            jax.errors.JaxRuntimeError,
        ),
        (MemoryError(), MemoryError),
        (PermissionError(13, "Permission denied"), MachineError),
        (OSError(24, "Too many open files"), MachineError),
        (ValueError("PERMISSION_DENIED: Error opening d/1"), MachineError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_machine_refuses_is_not_damage(folder, monkeypatch, error, kind):
    def refuse(*arguments, **options):
        raise error

    with CheckpointStore(folder, KEEP_ALL) as store:
        monkeypatch.setattr(store._state_reader, "read", refuse)
        with pytest.raises(kind) as caught:
            store.restore_newest(target(), lambda line: None)
        if kind is MachineError:
            assert "It was left as it is" in str(caught.value)
        assert store.steps() == [1, 2, 3] and store.set_aside() == []


def test_an_interruption_waits_for_the_read_and_is_not_damage(folder, monkeypatch):
    with CheckpointStore(folder, KEEP_ALL) as store:
        checkpointer, done = store._state_reader._checkpointer, []
        restore = checkpointer.restore

        def interrupted(*arguments, **options):
            time.sleep(0.2)  # The main thread waits by then.
            os.kill(os.getpid(), signal.SIGINT)
            done.append(restore(*arguments, **options))
            return done[0]

        monkeypatch.setattr(checkpointer, "restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.restore_newest(target(), lambda line: None)
        assert len(done) == 1
        assert store.steps() == [1, 2, 3] and store.set_aside() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": (2,)}, "first being more, which is missing there and float32[2] here"),
        ({"w": (64, 16)}, "first being w, which is float32[64,32] there and float32[64,16] here"),
    ],
)
def test_a_tree_of_other_arrays_is_not_damage(folder, change, message):
    wanted = target()
    for name, shape in change.items():
        sharding = NamedSharding(MESH, P())
        wanted[name] = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
    with CheckpointStore(folder, KEEP_ALL) as store:
        with pytest.raises(UserError, match="holds other arrays than this run") as caught:
            store.restore_newest(wanted, lambda line: None)
        assert message in str(caught.value)
        assert store.steps() == [1, 2, 3] and store.set_aside() == []


# ---- A part of a checkpoint --------------------------------------------------------------------


@pytest.fixture
def nested(tmp_path):
    """A checkpoint with two fields, and the shapes of one."""
    state = {"params": make_state(1), "optimizer": {"moments": make_state(2)}}
    with CheckpointStore(tmp_path / "nested", KEEP_ALL) as store:
        store.save(1, state, {"note": 1})
    return tmp_path / "nested", {"params": target()}


def test_a_part_is_restored_without_the_rest(nested):
    folder, wanted = nested
    with CheckpointStore(folder) as store:
        restored = store.restore_part(1, wanted)
        assert set(restored.state) == {"params"}
        assert bits(restored.state["params"]) == bits(make_state(1))
        assert restored.record["note"] == 1
        with pytest.raises(UserError, match="other arrays"):
            store.restore_part(1, {"params": {"w": wanted["params"]["w"]}})


def test_a_damaged_part_is_refused(nested):
    folder, wanted = nested
    flip_arrays(folder, 1)
    with CheckpointStore(folder) as store, pytest.raises(DamagedCheckpointError):
        store.restore_part(1, wanted)


# ---- What stays, and what is set aside -----------------------------------------------------------


def test_the_policy_lets_old_ones_go_and_remembers_the_best_over_a_restart(tmp_path):
    config = CheckpointConfig(keep_last=1, keep_every_steps=4, keep_best=1)
    losses = {1: 5.0, 2: 3.0, 3: 4.0, 4: 4.5, 5: 4.6, 6: 6.0, 7: 2.0}
    for steps, kept in (((1, 2, 3), [2, 3]), ((4, 5, 6), [2, 4, 6]), ((7,), [4, 7])):
        with CheckpointStore(tmp_path, config) as store:
            for step in steps:
                store.save(step, make_state(step), {"evaluation_loss_nats": losses[step]})
        assert store.steps() == kept


def test_the_best_is_the_best_on_the_rows_of_the_newest(tmp_path):
    config = CheckpointConfig(keep_last=1, keep_best=1)
    with CheckpointStore(tmp_path, config) as store:
        for step, rows, loss in (
            (1, "128", 1.0),
            (2, "512", 3.0),
            (3, "512", 2.5),
            (4, "512", 2.8),
        ):
            record = {"evaluation_loss_nats": loss, "evaluated_on": rows}
            store.save(step, make_state(step), record)
        store.wait()
        assert store.steps() == [3, 4]


def test_the_loss_of_a_checkpoint_that_was_replaced_counts_no_more(tmp_path):
    config = CheckpointConfig(keep_last=1, keep_best=1)
    with CheckpointStore(tmp_path, config) as store:
        for step, loss in ((1, 3.0), (2, 1.0)):
            store.save(step, make_state(step), {"evaluation_loss_nats": loss})
        store.wait()
        store.supersede_after(1)
        for step, record in ((2, {}), (3, {"evaluation_loss_nats": 4.0}), (4, {})):
            store.save(step, make_state(step), record)
        store.wait()
        assert store.steps() == [3, 4]


def test_a_restart_from_an_earlier_step_keeps_the_later_ones_aside(folder):
    with CheckpointStore(folder, KEEP_ALL) as store:
        assert store.supersede_after(1) == ["2.superseded", "3.superseded"]
        assert store.steps() == [1]
        store.save(2, make_state(2), {"note": 2})
        store.wait()
        assert store.supersede_after(1) == ["2.superseded-1"]
    assert store.set_aside() == []  # Superseded is not damaged.
    assert newest(folder) == (1, [])


# ---- A disk that refuses -------------------------------------------------------------------------

FULL_DISK = """
import resource, sys, time
import jax, numpy as np
from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.config import CheckpointConfig
from roberta_jax.errors import MachineError

state = jax.device_put({"w": np.random.Generator(np.random.Philox(key=1)).random(1 << 18)})
store = CheckpointStore(sys.argv[1], CheckpointConfig(keep_last=9))
for step in (1, 2):
    store.save(step, state, {})
limit = 1 << 16
while store.steps() != [1, 2]:
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    store.save(3, state, {})
    while True:
        store.check()
        time.sleep(0.01)
except MachineError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_that_is_full_is_said_and_the_earlier_checkpoint_is_intact(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(
        f"A checkpoint could not be written to {tmp_path}: File too large. "
    )
    assert done.stdout.count("\n") == 1
    assert "The last good checkpoint is that of step 2." in done.stdout
    shapes = {
        "w": jax.ShapeDtypeStruct(
            (1 << 18,),
            jnp.float32,
            sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
        )
    }
    with CheckpointStore(tmp_path, KEEP_ALL) as store:
        assert store.steps() == [1, 2]
        wanted = np.random.Generator(np.random.Philox(key=1)).random(1 << 18)
        restored = store.restore(2, shapes).state["w"]
        np.testing.assert_array_equal(restored, wanted.astype(np.float32))


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("OUT_OF_RANGE: x")])
@pytest.mark.parametrize("moment", ["save", "wait_until_finished"])
def test_every_moment_at_which_a_write_can_fail_is_explained(folder, monkeypatch, error, moment):
    def refuse(*arguments, **options):
        raise error

    store = CheckpointStore(folder, KEEP_ALL)
    with monkeypatch.context() as context:
        context.setattr(store._manager, moment, refuse)
        with pytest.raises(MachineError, match="The last good checkpoint is that of step 3"):
            store.save(4, make_state(4), {})
            store.wait()
    store.close()


def test_the_first_failure_says_that_nothing_is_saved_yet(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    store = CheckpointStore(tmp_path, KEEP_ALL)
    with monkeypatch.context() as context:
        context.setattr(store._manager, "save", refuse)
        with pytest.raises(MachineError, match="The last good checkpoint is none yet"):
            store.save(1, make_state(1), {})
    store.close()


def test_the_record_is_plain_json_on_disk(folder):
    record = json.loads((folder / "2" / "record" / "metadata").read_text())
    assert record["note"] == 2
    assert set(record["fingerprint"]) == set(SPECS)
