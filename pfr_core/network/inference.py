"""Running the network over aligned crops in batches that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from einops import rearrange

from ..errors import InputError, NotFiniteError, ShouldStop, check_stop
from ..photo.arrays import FloatImage
from ..support.device import give_back_cached
from ..support.memory import is_out_of_memory
from ..support.progress import Progress
from .face_model import FaceModel
from .winograd import fast_convolutions

log = logging.getLogger(__name__)


def restore_crops(
    net: FaceModel,
    crops: FloatImage,
    *,
    batch_size: int,
    options: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> FloatImage:
    """Restore crops [N,S,S,3] float32 in [0,1]: same shape and range.

    A batch that does not fit into memory is halved and tried again, down to one face.

    Args:
        net: the network.
        crops: S is the network's size.
        batch_size: faces at once.
        options: values of ``net.options``.
        progress: called with (done, total) faces.
        should_stop: asked between two batches.

    Raises:
        InputError: the crops are of another type.
        NotFiniteError: the network gives numbers that are not finite.
        Cancelled: ``should_stop`` returned true between two batches.
    """
    if crops.dtype != np.float32:
        raise InputError(f"The crops are {crops.dtype}; pass float32 in [0,1].")
    device, dtype = net.place
    restored = np.empty_like(crops)
    done = 0
    while done < len(crops):
        check_stop(should_stop, f"Stopped after {done} of {len(crops)} faces; nothing was written.")
        batch = rearrange(torch.from_numpy(crops[done : done + batch_size]), "n h w c -> n c h w")
        try:
            with torch.inference_mode(), fast_convolutions(device):
                y = net.restore(batch, **(options or {}))
                if not y.isfinite().all():
                    remedy = "another model file" if dtype == torch.float32 else "dtype fp32, or another model file"
                    raise NotFiniteError(f"The model gives NaN or infinity in {dtype}. Use {remedy}.")
                restored[done : done + len(batch)] = rearrange(y.clamp(0, 1), "n c h w -> n h w c").cpu().numpy()
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            batch_size = len(batch) // 2
            log.warning("out of memory; going on with %d faces at a time", batch_size)
        else:
            done += len(batch)
            if progress is not None:
                progress(done, len(crops))
            continue
        give_back_cached(device)  # outside the except block, which still holds the failed batch's tensors
    return restored
