"""One run: its configuration, loop, state, optimisers and randomness."""
