"""The tab for understanding the model: a good face is degraded by the paper's Eq. 17, restored, and compared with itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import numpy as np
import numpy.typing as npt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pfr_core.compose import cut_face
from pfr_core.degradation import Degradation
from pfr_core.errors import InputError
from pfr_core.photo.arrays import to_uint8
from pfr_core.support.choices import Blur
from pfr_core.support.text import markdown

from . import pictures
from .components import as_given, photo_input
from .context import GPU_QUEUE, PRIVATE, Context
from .texts import choices, say, text

FACE_SIZE = 512
"""The paper's degradation is meant for an aligned face of 512 px."""
OFF = "none"
CAPTIONS = "degraded", "restored_word", "original"


class DegradeTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context, example: Path) -> None:
        self.context = context
        paper = Degradation()
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                gr.Markdown(text("degrade_intro"))
                self.upload = photo_input(
                    label=text("good_photo"), sources=["upload", "clipboard"], height=260, buttons=[], elem_id="good"
                )
                gr.Examples([[str(example)]], [self.upload], label=text("examples"), cache_examples=False)
                start = gr.Button(text("degrade_start"), variant="primary", size="lg", elem_id="degrade-start")
                kinds = [OFF, *get_args(Blur)]
                settings: dict[str, Any] = {
                    "blur": gr.Dropdown(kinds, value="isotropic", filterable=False, **_named("blur")),
                    "sigma": gr.Slider(*paper.sigma, value=3.0, step=0.1, **_named("sigma")),
                    "scale": gr.Slider(*_of(paper.scale), value=4.0, step=0.1, **_named("shrunk")),
                    "noise": gr.Slider(*_of(paper.noise), value=10.0, step=0.5, **_named("noise")),
                    "quality": gr.Slider(*_of(paper.quality), value=30, step=1, **_named("quality")),
                    "seed": as_given(gr.Number(0, precision=0, **_named("seed"))),
                }
                context.menus[settings["blur"]] = partial(choices, name="blur", values=kinds)
                model = gr.Dropdown(list(context.engine.models), label=text("model"), filterable=False)
            with gr.Column(scale=8, min_width=320):
                gallery = gr.Gallery(
                    label=text("degrade_gallery"), show_label=False, columns=3, fit_columns=False, height="auto",
                    object_fit="contain", buttons=["fullscreen"], elem_id="degrade-gallery",
                )  # fmt: skip
                figures = gr.Markdown("", elem_id="figures")
        start.click(
            self.run, [self.upload, model], [gallery, figures], inputs_kwargs=settings,
            show_progress_on=[gallery], **GPU_QUEUE, **PRIVATE,
        )  # fmt: skip

    def run(
        self,
        request: gr.Request,
        path: str | None,
        model: str,
        *,
        blur: Any,
        sigma: float,
        scale: float,
        noise: float,
        quality: float,
        seed: int | None,
    ) -> list[Any]:
        """Degrade the largest face of the photo and restore it.

        Raises:
            InputError: no photo, no face in it, or what is no seed.
        """
        with self.context.job(request) as job:
            if path is None:
                raise InputError("Choose a photo with a sharp face first.")
            if not isinstance(seed, int) or seed < 0:  # None is an emptied field
                raise InputError("Seed must be a whole number that is not negative.")
            photo = self.context.read(path)
            largest = self.context.options({"select": "largest", "only_bad_faces": False})
            found = self.context.engine.find(photo.pixels, largest, job.should_stop)
            if not found.faces:
                for notice in found.notices:
                    self.context.for_operator(notice)
                raise InputError("No face was found in this photo. Choose another one.")
            original = to_uint8(cut_face(photo.pixels, found.faces[0], FACE_SIZE).crop)
            degradation = Degradation(
                blur=None if blur == OFF else (blur,), sigma=(sigma, sigma), scale=(scale, scale), noise=(noise, noise),
                quality=(quality, quality),
            )  # fmt: skip
            degraded, drawn = degradation(original, seed)
            self.context.fetch(request, model, job)
            with self.context.engine.use(model) as restorer:
                restored = restorer.restore(degraded, aligned=True, should_stop=job.should_stop).image
            folder = job.session.new_folder("understood")
            images = {"degraded": degraded, "restored": restored, "original": original}
            paths = {name: pictures.save_exact(folder / f"{name}.png", image) for name, image in images.items()}
            judged = {"degraded": degraded, "restored_word": restored}
            table = markdown(
                [say(request, "against_original"), "PSNR (dB)", "SSIM"],
                [[say(request, name), _psnr(image, original), _ssim(image, original)] for name, image in judged.items()],
            )
            known = dict(choices(request, "blur", [blur]))
            told = say(
                request, "degraded_by", size=FACE_SIZE, blur=next(iter(known)), sigma=_pair(drawn.sigma), scale=f"{scale:g}",
                noise=f"{noise:g}", quality=f"{quality:g}",
            )  # fmt: skip
            return [
                [(paths[name], say(request, each)) for name, each in zip(images, CAPTIONS, strict=True)],
                f"{table}\n\n{told}" + self.context.told(request, photo.notices),
            ]


def _named(name: str) -> dict[str, Any]:
    return {"label": text(name), "info": text(f"{name}_info")}


def _psnr(image: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> str:
    return f"{peak_signal_noise_ratio(truth, image, data_range=255):.2f}"


def _ssim(image: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> str:
    return f"{structural_similarity(truth, image, channel_axis=2, data_range=255):.4f}"


def _pair(sigma: tuple[float, float]) -> str:
    return " x ".join(f"{value:.3g}" for value in sigma)


def _of(bounds: tuple[float, float] | None) -> tuple[float, float]:
    assert bounds is not None  # the paper's stages are all on
    return bounds
