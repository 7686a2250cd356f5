"""Inputs of strangers: seeds of every format, mutated, in child processes, with one oracle. `make fuzz` runs it for hours."""
