"""From a place to samples: formats, places, decoding, windows, spectra."""
