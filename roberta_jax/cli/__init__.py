"""The command line: one short file per verb, flags in, a function call, no logic.

- `main`: finds the verb, parses its flags, turns errors into one paragraph and an exit code.
- `config_flag`: `--config=FILE --config.a.b=…` with helpful mistakes.
- one module per verb: `SUMMARY`, `define_flags(flags)`, `run(flags, arguments) -> exit code`.
"""
