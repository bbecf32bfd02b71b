"""Where weights stay that are only read and written."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from roberta_jax.parallel.mesh import AXES


def host_mesh() -> Mesh:
    """A mesh of one device, the processor: the weights are there once, whatever else there is.

    A mesh over all devices would hold them whole on each.
    """
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the processor out.
        device = jax.local_devices()[0]
    shape = (1,) * len(AXES)
    return Mesh(np.array(device).reshape(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))
