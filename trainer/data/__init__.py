"""Training sets: made, indexed, packed, read and degraded."""
