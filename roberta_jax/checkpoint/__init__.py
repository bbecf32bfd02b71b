"""The state of a run on disk, verified. The only importer of orbax.

In: a tree of sharded arrays and a small record (config, examples seen, evaluation loss). Out: the
same tree on any mesh, bit for bit, or an error that says which checkpoint is damaged.

- `store`: asynchronous saves, and the restore that goes from the newest step to older ones.
- `fingerprint`: a hash of array contents that doesn't depend on the sharding.
- `reading`: arrays are read to the end, even when one of them fails.
- `policy`: which checkpoints stay.
"""
