"""Runs over many processors with Ray Data."""
