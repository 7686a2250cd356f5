"""Models as weights: names, folders, hub, calibration, released checkpoints."""
