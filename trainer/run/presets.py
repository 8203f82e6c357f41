"""The presets of each stage: options that belong together, for ``--preset``. What one does not name keeps its default."""

from __future__ import annotations

from typing import Any

# Ours: no adversary and no feature network, one learning rate, warm-up and cosine decay; runs without any prior.
# Started as the identity, small batches with a large rate learn most in a given time on a CPU.
RECONSTRUCTION: dict[str, Any] = {
    "network": "pfr-256-lite",
    "pass_through": True,
    "iterations": 10_000,
    "min_native": 256,
    "clean_share": 0.125,
    "batch": 2,
    "stddev_group": 0,
    "global_weight": 0.0,
    "local_weight": 0.0,
    "fm_weight": 0.0,
    "fp_weight": 0.0,
    "lr_codec": 3e-3,
    "lr_prior": 3e-3,
    "lr_noise": 3e-3,
    "schedule": "cosine",
    "warmup": 100,
    "beta1": 0.9,
    "grad_clip": 1.0,
    "device": "cpu",
    "workers": 1,
    "perceptual": "squeezenet",
    "identity": "mobilefacenet",
    "checkpoint_every": 250,
    "image_every": 0,
    "validate_every": 0,
    "best_by": "psnr",
}

# Ours: 512 px with a patch of 4, to go on from the default's training, or to begin with --pass-through. The rate stays, for
# days if need be; the average stands for its decay, and the end of a leg is a short run of its own (--schedule cosine).
RECONSTRUCTION_512: dict[str, Any] = {
    **RECONSTRUCTION,
    "network": "pfr-512-patch4",
    "min_native": 400,
    "pass_through": False,
    "l1_weight": 3.0,
    "psnr_weight": 1.0,
    "iterations": 1_000_000,
    "lr_codec": 1e-3,
    "lr_prior": 1e-3,
    "lr_noise": 1e-3,
    "schedule": "piecewise",
    "decay_at": (),
}

# Ours, from what reconstruction gave: adversaries that few faces can feed, photographs only for them to take as real.
TEXTURE_512: dict[str, Any] = {
    **RECONSTRUCTION_512,
    "l1_weight": 4.0,
    "psnr_weight": 0.0,
    "low_weight": 4.0,
    "chroma_weight": 6.0,
    "pyramid_weight": 0.5,
    "unit_weight": 1.5,
    "energy_weight": 2.0,
    "projected_weight": 0.4,
    "detail_weight": 0.4,
    "luma_only": True,
    "spare_components": True,
    "crop": 256,
    "r1_weight": 2e-4,
    "r1_every": 4,
    "real_share": 1.0,
    "beta1": 0.0,
    "grad_clip": 2.0,
    "lr_codec": 8e-4,
    "lr_prior": 8e-4,
    "lr_noise": 8e-4,
    "lr_fine": 3e-3,
    "lr_texture": 2e-3,
    "best_by": "kid",
}

TRAINING_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "prior": {
        "paper": {},
        "lite": {"network": "pfr-512-lite", "iterations": 200_000, "batch": 16},
        # Ours: rough faces on two CPU cores in one to two hours.
        "tiny": {
            "network": "pfr-256-lite",
            "size": 64,
            "iterations": 9000,
            "batch": 8,
            "decay_at": (0.8,),
            "r1_weight": 0.5,  # StyleGAN2-ADA's rule of thumb falls with resolution squared
            "path_every": 16,
            "ema": 0.995,
            "min_native": 64,
            "workers": 1,
            "checkpoint_every": 500,
            "image_every": 500,
            "validate_every": 2500,
        },
    },
    "restore": {
        "paper": {},
        "lite": {"network": "pfr-512-lite", "iterations": 100_000, "batch": 8, "local_channels": 16},
        "tiny": {
            "network": "pfr-256-lite",
            "size": 64,
            "iterations": 5000,
            "batch": 8,
            "min_native": 64,
            "freeze_d": 3,  # of five entries; the paper freezes five of eight
            # The paper's values are for 700,000 steps at 512 px. Here the discriminators have 5,000, and an eye is 14 px: with
            # those values the generator fools them sooner than they learn, and all logits stay at 0.
            "lr_codec": 1e-3,
            "lr_noise": 1e-3,
            "lr_global": 2e-4,
            "local_weight": 0.3,
            "r1_weight": 0.5,
            "local_channels": 16,
            "perceptual": "squeezenet",
            # The paper's 0.02 means VGG19. SqueezeNet's features are large (rms 60 to 340 by layer): at 0.02 the term outweighs
            # all others; at 0.002 it weighs on a degraded face what the pixel loss does.
            "fm_weight": 0.002,
            "identity": "mobilefacenet",
            "workers": 1,
            "checkpoint_every": 500,
            "image_every": 500,
            "validate_every": 2500,
        },
        "reconstruction": RECONSTRUCTION,
        "reconstruction-512": RECONSTRUCTION_512,
        "texture-512": TEXTURE_512,
    },
}
