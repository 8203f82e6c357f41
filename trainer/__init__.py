"""Training of PFR: ``python -m trainer`` from the clone, ``pfr-train`` when installed.

Reads the paper's sections 3.4, 4.1 and 4.2. So far: reconstruction training (pixel L1 and the decoder's L1 pyramid),
evaluation and export. Nothing here is imported by ``pfr_core`` or by the ComfyUI nodes.
"""
