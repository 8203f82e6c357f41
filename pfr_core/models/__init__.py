"""From a name to a loaded network: where weights are found, checkpoints, formats of others."""
