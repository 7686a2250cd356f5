"""The commands that are not about clips themselves; `cli.py` joins them."""
