"""What a run costs on devices that are not there, from compiling its real step for them.

In: a `PretrainConfig` and the name of a topology. Out: memory, FLOPs, traffic and an honest range
of times, per device, or by how much the memory is missed.

- `topologies`: names of devices; `chips`: memory and published rates of one.
- `program`: config and devices → the step of every phase over shapes, as `pretrain` builds it.
- `compile`: a program of its own that compiles them; libtpu must not share a process with a run.
- `flops`: matrix FLOPs of a traced step; `hlo`: reads a compiled one; `traffic`: the bytes that it
  moves, to memory and to other devices; `memory_error`: what XLA says when memory is missing.
- `result`: what is found, as plain data; `memory`: its parts; `costs`: times from rates; `verdict`:
  the lines to read; `page`: the same as HTML.
- `scaling`: the time of a step over the number of chips, on paper; nothing is compiled.
- `worker`: starts the program and brings its result home; `search`: tries settings, best first.
"""
