"""Training data of the network that looks at found faces once more for their five points."""
