"""What -m names, as weights on disk or on a hub."""
