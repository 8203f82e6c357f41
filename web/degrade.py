"""The tab for understanding the model: a good face is degraded by the paper's Eq. 17, restored, and compared with itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import gradio as gr
import numpy as np
import numpy.typing as npt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pfr_core.compose import cut_face
from pfr_core.degradation import Degradation
from pfr_core.errors import InputError
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import to_uint8
from pfr_core.support.choices import Blur

from . import pictures
from .components import photo_input
from .context import GPU_QUEUE, PRIVATE, Context

FACE_SIZE = 512
"""The paper's degradation is meant for an aligned face of 512 px."""
OFF = "none"


class DegradeTab:
    """The tab's components, and what happens when they are used."""

    def __init__(self, context: Context, example: Path) -> None:
        self.context = context
        paper = Degradation()
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                self.upload = photo_input(
                    label="A good photo of a face", sources=["upload", "clipboard", "webcam"], height=260, elem_id="good"
                )
                gr.Examples([[str(example)]], [self.upload], label="Example", cache_examples=False)
                settings = {
                    "blur": gr.Dropdown(
                        [OFF, *get_args(Blur)], value="isotropic", label="Blur", info="kind of kernel k, 41 px", filterable=False
                    ),
                    "sigma": gr.Slider(
                        *paper.sigma, value=3.0, step=0.1, label="Blur width", info="px; motion has a length of its own"
                    ),
                    "scale": gr.Slider(*_of(paper.scale), value=4.0, step=0.1, label="Shrunk", info="s, by this factor"),
                    "noise": gr.Slider(*_of(paper.noise), value=10.0, step=0.5, label="Noise", info="delta, of 255"),
                    "quality": gr.Slider(*_of(paper.quality), value=30, step=1, label="JPEG quality", info="q"),
                    "seed": gr.Number(0, precision=0, minimum=0, label="Seed", info="of the noise and the angle"),
                }
                model = gr.Dropdown(list(context.engine.models), label="Model", filterable=False)
                start = gr.Button("Degrade and restore", variant="primary", size="lg", elem_id="degrade-start")
            with gr.Column(scale=8, min_width=320):
                gallery = gr.Gallery(
                    label="Degraded | restored | original", show_label=False, columns=3, fit_columns=False, height="auto",
                    object_fit="contain", buttons=["fullscreen"], elem_id="degrade-gallery",
                )  # fmt: skip
                slider = gr.ImageSlider(
                    label="Degraded | restored", type="filepath", format="png", image_mode=None, max_height=FACE_SIZE,
                    interactive=False, buttons=["fullscreen"], elem_id="degrade-slider",
                )  # fmt: skip
                figures = gr.Markdown("", elem_id="figures")
        self.upload.change(lambda path: None, [self.upload], None, validator=context.hold, show_progress="hidden", **PRIVATE)
        start.click(
            self.run, [self.upload, model], [gallery, slider, figures], inputs_kwargs=settings, validator=context.hold,
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
        seed: int,
    ) -> list[Any]:
        """Degrade the largest face of the photo and restore it."""
        with self.context.visit(request) as session:
            if path is None:
                raise InputError("There is no photo yet. Choose one with a sharp face first.")
            photo = self.context.read(path)
            found = self.context.engine.find(photo.pixels, RestoreOptions(select="largest", only_bad_faces=False)).faces
            if not found:
                raise InputError("No face was found in this photo. Choose another one.")
            original = to_uint8(cut_face(photo.pixels, found[0], FACE_SIZE).crop)
            degradation = Degradation(
                blur=None if blur == OFF else (blur,), sigma=(sigma, sigma), scale=(scale, scale), noise=(noise, noise),
                quality=(quality, quality),
            )  # fmt: skip
            degraded, drawn = degradation(original, seed)
            with self.context.engine.use(model) as restorer:
                restored = restorer.restore(degraded, aligned=True).image
            folder = session.new_folder()
            images = {"degraded": degraded, "restored": restored, "original": original}
            paths = {name: pictures.save(folder / f"{name}.png", image) for name, image in images.items()}
            table = "\n".join(
                [
                    "| against the original | PSNR (dB) | SSIM |",
                    "| --- | --- | --- |",
                    f"| degraded | {_psnr(degraded, original)} | {_ssim(degraded, original)} |",
                    f"| restored | {_psnr(restored, original)} | {_ssim(restored, original)} |",
                ]
            )
            told = f"blur {blur}, {_pair(drawn.sigma)} px, s {scale:g}, noise {noise:g}, quality {quality:g}"
            return [
                [(paths[name], name) for name in images],
                (paths["degraded"], paths["restored"]),
                f"{table}\n\nThe largest face, aligned to {FACE_SIZE} px. Degraded by: {told}.",
            ]


def _psnr(image: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> str:
    return f"{peak_signal_noise_ratio(truth, image, data_range=255):.2f}"


def _ssim(image: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> str:
    return f"{structural_similarity(truth, image, channel_axis=2, data_range=255):.4f}"


def _pair(sigma: tuple[float, float]) -> str:
    return " x ".join(f"{value:.3g}" for value in sigma)


def _of(bounds: tuple[float, float] | None) -> tuple[float, float]:
    assert bounds is not None  # the paper's stages are all on
    return bounds
