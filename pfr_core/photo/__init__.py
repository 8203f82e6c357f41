"""Photo files and pictures in memory: reading, writing, metadata, layouts."""
