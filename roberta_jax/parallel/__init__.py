"""Where arrays live: the device mesh and the tables that say how each array is split over it.

In: a `MeshConfig`, the visible devices, trees of arrays or shapes. Out: a `Mesh`, a `NamedSharding`
for every leaf, and batches placed on the devices.

- `mesh`: the mesh (data, fsdp, context, tensor), its place on the networks between the devices, and
  the checks that devices and batch fit it.
- `tables`: parameter path → PartitionSpec, and the constraints on activations.
- `host_memory`: a CPU's memory, kept from step to step.
- `placement`: NumPy batches → arrays on the mesh, ahead of time; which rows lie on this process.
- `launch`: who takes part in a run of several processes; `rendezvous`: where they meet;
  `processes`: what they agree on; `watch`: what ends them when one is gone.
"""
