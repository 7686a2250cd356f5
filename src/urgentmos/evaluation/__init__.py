"""Predictions and labels -> how well they agree."""
