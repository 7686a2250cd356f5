"""What every shelf uses: names of files, values from strangers, retries, interrupts, warnings about clips."""
