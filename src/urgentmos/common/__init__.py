"""Helpers of all shelves: names of files, values from strangers, retries, interrupts, warnings about clips."""
