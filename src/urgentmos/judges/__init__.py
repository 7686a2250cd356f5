"""Whatever answers score and compare: networks and metrics of the table."""
