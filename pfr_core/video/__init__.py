"""Clips. Needs PyAV: ``pip install 'pfr[video]'``."""
