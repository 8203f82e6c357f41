"""The losses of section 3.4 and 3.1, one function per equation, and StyleGAN2's regularisers.

Reductions are nowhere stated in the paper and decide what its weights mean; ours are stated in each function. Images are
[B,3,S,S] in [-1,1]; every loss is computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pfr_core.faces.color import LUMA
from pfr_core.network.layers import averaged, haar

ARCFACE_DIMENSIONS = 512

FLAWLESS = 1e-3
"""Mean squared error, images in [-1,1], from which on a smaller one gains little: 36 dB."""

AROUND = 0.25
"""How much counts what lies around the face: as much strength of details as hair has, where nothing of the hair is known, comes
out as leather, and what few parameters spend on hair and background is missing in the face."""


def generator_adversarial(fake_logits: Tensor) -> Tensor:
    """Return Eq. 11, the generator's side: StyleGAN2's non-saturating logistic loss, mean over [B,1] logits."""
    return F.softplus(-fake_logits.float()).mean()


def discriminator_adversarial(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return Eq. 11, the discriminator's side."""
    return F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()


def generator_local(fake_logits: Sequence[Tensor]) -> Tensor:
    """Return Eq. 12, the generator's side.

    It is the cross-entropy of each component's logits [B,1,H,W] against "real", mean per logit, summed over the components.
    """
    return torch.stack([F.binary_cross_entropy_with_logits(x.float(), torch.ones_like(x).float()) for x in fake_logits]).sum()


def discriminator_local(real_logits: Sequence[Tensor], fake_logits: Sequence[Tensor]) -> Tensor:
    """Return Eq. 12, the discriminators' side."""
    real = [F.binary_cross_entropy_with_logits(x.float(), torch.ones_like(x).float()) for x in real_logits]
    fake = [F.binary_cross_entropy_with_logits(x.float(), torch.zeros_like(x).float()) for x in fake_logits]
    return torch.stack([*real, *fake]).sum()


def l1(output: Tensor, truth: Tensor) -> Tensor:
    """Return the pixel loss, first term of Eq. 14: mean absolute difference per element."""
    return F.l1_loss(output.float(), truth.float())


def log_error(output: Tensor, truth: Tensor) -> Tensor:
    """Return the logarithm of each face's mean squared error, mean over faces (ours; Chen et al. 2022, NAFNet: the PSNR itself).

    Squared errors count as :func:`face_weight` says, which is brought to a mean of 1. In nepers above :data:`FLAWLESS`, of
    log(1 + x). A face that lacks little counts as much as one that lacks a lot, and the best answer is the mean of what the face
    may have been, where an L1 distance asks for the median.
    """
    weight = face_weight(output.shape[-1], output.device)
    errors = ((output.float() - truth.float()).square() * (weight / weight.mean())).mean(dim=(1, 2, 3))
    return torch.log1p(errors / FLAWLESS).mean()


def shrunk(image: Tensor, sides: Iterable[int]) -> dict[int, Tensor]:
    """Shrink [B,C,S,S] to each of ``sides``, powers of two, by averaging areas: [B,C,s,s] by its side s."""
    found = {}
    for side in sorted(sides, reverse=True):
        found[side] = image = averaged(image, image.shape[-1] // side)  # of the size above, which is smaller than the whole
    return found


def l1_pyramid(pyramid: Mapping[int, Tensor], truths: Mapping[int, Tensor]) -> Tensor:
    """Return the decoder's restoration loss (section 3.1): the sum over scales r of the pixel loss at r.

    ``pyramid`` maps r to [B,3,r,r], and ``truths`` to the truth of that size (:func:`shrunk`).
    """
    return torch.stack([l1(image, truths[r]) for r, image in pyramid.items()]).sum()


def feature_matching(output: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Return the second term of Eq. 14: the L2 norm (not squared) of each layer's features' difference, summed over the layers.

    Each layer's features are [B,C,H,W]. The norm is divided by the square root of the number of elements, mean over faces.
    """
    total = output[0].new_zeros((), dtype=torch.float32)
    for a, b in zip(output, truth, strict=True):
        mean_square = (a.float() - b.float()).square().flatten(1).mean(dim=1)  # [B]
        total = total + torch.sqrt(mean_square + 1e-12).mean()  # the root has no gradient at 0
    return total


def low_pass(output: Tensor, truth: Tensor, scale: int = 4) -> Tensor:
    """Return the pixel loss of what is left at 1/``scale`` of the size (ours): texture is free, shape and colour are not."""
    return l1(F.avg_pool2d(output.float(), scale), F.avg_pool2d(truth.float(), scale))


def luma_only(output: Tensor, truth: Tensor) -> Tensor:
    """Return ``output`` in the colours of ``truth`` (ours), for losses that are to judge its luma alone.

    Colours that an adversary likes are not the person's: irises came out teal.
    """
    weights = torch.from_numpy(LUMA).to(output)[:, None, None]
    return truth + ((output - truth) * weights).sum(dim=1, keepdim=True)


def chroma(output: Tensor, truth: Tensor) -> Tensor:
    """Return the pixel loss of the colours alone (ours): what texture adds is to be gray, for its losses see luma."""
    return l1(output, luma_only(output, truth))


def detail_energy(output: Tensor, truth: Tensor) -> Tensor:
    """Return how far the finest details' local strength is from the truth's (ours): neither their place nor their sign counts.

    The root mean square of each Haar band in windows of 8x8, at full and at half size; mean absolute difference times
    :func:`face_weight`, sum over the two. A pixel loss alone makes details that it cannot place vanish; this one wants as much of
    them as there should be there.
    """
    total = output.new_zeros((), dtype=torch.float32)
    for scale in (1, 2):
        bands = [torch.cat(haar(averaged(images.float(), scale)), dim=1) for images in (output, truth)]
        window = min(8, bands[0].shape[-1])
        ours, wanted = (torch.sqrt(F.avg_pool2d(band.square(), window) + 1e-6) for band in bands)  # no gradient at 0 without
        total = total + (face_weight(ours.shape[-1], ours.device) * (ours - wanted).abs()).mean()
    return total


@lru_cache(maxsize=8)
def face_weight(side: int, device: torch.device) -> Tensor:
    """Return [side,side]: 1 in an oval, the face of an aligned crop, :data:`AROUND` outside, a soft border between (ours)."""
    x = (torch.arange(side, device=device) + 0.5) / side
    squares = ((x - 0.5) / 0.28).square() + ((x[:, None] - 0.58) / 0.34).square()
    return AROUND + (1 - AROUND) * torch.sigmoid(8 * (1 - squares))


def unit_distance(output: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Return the squared distance of features [B,C,H,W] of unit length, mean over places, sum over layers (ours).

    LPIPS without its learned weights.
    """
    pairs = [(F.normalize(a.float(), dim=1), F.normalize(b.float(), dim=1)) for a, b in zip(output, truth, strict=True)]
    return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).sum()


def face_preserving(output: Tensor, truth: Tensor) -> Tensor:
    """Return Eq. 15: L1 between identity embeddings [B,D] of unit length, mean per dimension.

    The numbers of a unit vector are the larger the fewer there are: other D than ArcFace's are brought to its scale, so that the
    weight means the same (ours).
    """
    return F.l1_loss(output.float(), truth.float()) * math.sqrt(output.shape[1] / ARCFACE_DIMENSIONS)


def r1(logits: Tensor, images: Tensor) -> Tensor:
    """Return R1: half the squared norm of the logits' gradient with respect to the real IMAGES, mean over faces.

    ``images`` must require a gradient; the penalty is differentiable with respect to D's parameters.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean() / 2


def path_lengths(images: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """Return StyleGAN2's path lengths [B]: norm of the gradient of (image * noise) with respect to w.

    Args:
        images: [B,3,S,S], computed from ``w``.
        w: [B,D], or [B,L,D] with a style for each of L resolutions.
        noise: [B,3,S,S] from N(0,1).
    """
    scaled = noise / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images.float() * scaled).sum(), w, create_graph=True)
    squares = gradient.square().sum(dim=-1).reshape(len(w), -1).mean(dim=1)
    return torch.sqrt(squares + 1e-8)  # the root has no gradient at 0, where w has no say yet (``pass_through``)


def path_length(lengths: Tensor, mean: float) -> Tensor:
    """Return StyleGAN2's path-length regularisation: squared distance of the lengths [B] to their running mean."""
    return (lengths - mean).square().mean()
