"""Training of UrgentMOS and URGENT-PK with Lightning: `run.fit` from a `config.TrainConfig`."""
