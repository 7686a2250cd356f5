"""A place -> samples: formats, places, decoding, windows, spectra."""
