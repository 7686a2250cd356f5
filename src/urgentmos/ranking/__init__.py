"""Arrays of scores or verdicts -> a ranking with intervals and ties; numpy and scipy only."""
