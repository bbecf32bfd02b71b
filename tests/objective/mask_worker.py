"""Masks the rows of one of several processes; started by `test_mask_layout`.

Arguments: the number of this process, the number of processes, the coordinator's address, whether
whole words are masked, the file to write.
"""

import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.objective.mask_layout import EPOCHS, INDEX, KEY_SEED, TOKENS, make_masker

FIELDS = ("tokens", "positions", "targets", "weights")


def main(process: int, num_processes: int, address: str, whole_words: bool, path: str) -> None:
    jax.distributed.initialize(address, num_processes, process)
    assert jax.process_count() == num_processes
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, P("data"))
    rows = np.array_split(np.arange(len(TOKENS)), num_processes)[process]
    placed = [
        jax.make_array_from_process_local_data(sharding, array[rows], array.shape)
        for array in (TOKENS, INDEX, EPOCHS)
    ]
    draw = make_masker(whole_words)
    batch = jax.jit(lambda *inputs: draw(*inputs, jax.random.key(KEY_SEED)))(*placed)
    found = {"rows": rows}
    for name in FIELDS:
        shards = sorted(
            getattr(batch, name).addressable_shards, key=lambda shard: shard.index[0].start or 0
        )
        found[name] = np.concatenate([np.asarray(shard.data) for shard in shards])
    np.savez(path, **found)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "True", sys.argv[5])
