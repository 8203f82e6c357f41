"""The words a user can choose from.

They stand apart from what carries them out, so that a command line that only knows the words imports neither torch nor OpenCV.
"""

from __future__ import annotations

from typing import Literal

DTypeName = Literal["auto", "fp32", "fp16", "bf16"]
"""Precision of the network."""

EVERY_DTYPE: tuple[DTypeName, ...] = ("fp32", "fp16", "bf16")
"""All that ``auto`` chooses from."""

ExportType = Literal["fp32", "fp16"]
"""Precision of a model file that is written."""

DetectorName = Literal["auto", "builtin", "retinaface_mobile0.25", "retinaface_resnet50", "yunet"]
"""Face detectors. ``auto`` is the published RetinaFace mobile0.25 if its file is on this machine, else the one that ships with
PFR."""

DETECTION_THRESHOLD = 0.8
"""Lowest score that counts as a face, if nobody says otherwise."""

DETECTION_SIZE = 1280
"""Longer side in px at which faces are looked for, if nobody says otherwise: docs/detector.md says why."""

LARGEST_DETECTION = 8192
"""And the largest that anybody may ask for."""

CLOSEST_DETECTION = 4096
"""Longer side in px up to which the detector goes on by itself where many faces seem small, if nobody says otherwise."""

HALFWAY = 0.5
"""Fidelity, from 0 to 1, if nobody says otherwise; at it a network between two sets of weights runs with its own."""

Select = Literal["all", "largest", "center", "index"]
"""Which of the faces are restored."""

Order = Literal["left-to-right", "top-to-bottom", "size", "score", "right-to-left", "bottom-to-top", "smallest-first"]
"""In which order faces are listed, counted and numbered."""

MaskKind = Literal["box", "oval", "parse"]
"""Shape of what is pasted."""

ColorMatch = Literal["none", "adain", "wavelet"]
"""How a restored face gets the photograph's colours."""

ClipCodec = Literal["auto", "h264", "h265", "ffv1"]
"""How the pictures of a clip are encoded. ``auto`` is H.264, or H.265 where there are more than 8 bits; ffv1 loses nothing."""

CLIP_FORMATS = ("mp4", "mov", "mkv")
"""Endings of the files that clips are written to."""

IdentityName = Literal["arcface", "mobilefacenet"]
"""Networks that recognise faces."""

Blur = Literal["isotropic", "anisotropic", "motion"]
"""Kinds of kernel k in Eq. 17."""
