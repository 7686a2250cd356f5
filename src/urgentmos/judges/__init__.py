"""Judges that score and compare: networks, and metrics of the table."""
