"""Faces in a photograph: found, chosen, aligned, masked, matched in colour, pasted back."""
