"""The networks of the paper: sections 3.1 (codec, prior), 3.2 (MMRB) and the discriminators of 3.4."""
