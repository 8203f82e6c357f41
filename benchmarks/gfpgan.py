"""What a photograph with many faces costs with GFPGAN's network: through PFR, against facexlib's ``FaceRestoreHelper``.

Both have the same network with the same random weights, facexlib in float32, PFR in ``--dtype``, and the published RetinaFace
mobile0.25; facexlib runs its own code, in the order in which GFPGAN's own program calls it, with its feathered square mask
(``use_parse=False``), PFR its ``box`` mask. The photograph is one face, many times. ``--skip-network`` leaves the network out of
both, to see what is around it. What is measured is the processor time of all threads, which other programs on the machine change
little; the two take turns.

    PFR_WEIGHTS_DIR=FOLDER OMP_NUM_THREADS=1 python benchmarks/gfpgan.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from facexlib.detection import init_detection_model
from facexlib.utils.face_restoration_helper import FaceRestoreHelper
from PIL import Image
from spandrel.architectures.GFPGAN import GFPGAN

from pfr_core import FaceModel, FaceRestorer, load_face_model
from pfr_core.models.download import obtain
from pfr_core.models.registry import GFPGAN_DTYPES
from pfr_core.support.choices import DetectorName
from pfr_core.support.device import keep_memory

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"
COLUMNS = 6
DETECTOR: DetectorName = "retinaface_mobile0.25"
HELPER = "facexlib's helper"


def make_photo(faces: int) -> npt.NDArray[np.uint8]:
    """Return a sheet of the same face, [H,W,3] RGB."""
    one = np.array(Image.open(PHOTO).convert("RGB"))
    rows = -(-faces // COLUMNS)
    sheet = np.tile(one, (rows, min(faces, COLUMNS), 1))
    sheet[(rows - 1) * one.shape[0] :, (faces - (rows - 1) * COLUMNS) * one.shape[1] :] = 0
    return sheet


def helper() -> FaceRestoreHelper:
    """Return facexlib's helper without the face parser, which is not used here and would have to be fetched."""
    made = FaceRestoreHelper.__new__(FaceRestoreHelper)
    vars(made).update(
        template_3points=False, upscale_factor=1, crop_ratio=(1, 1), face_size=(512, 512), use_parse=False, pad_blur=False,
        save_ext="png", device=torch.device("cpu"), all_landmarks_5=[], det_faces=[], affine_matrices=[],
        inverse_affine_matrices=[], cropped_faces=[], restored_faces=[], pad_input_imgs=[],
    )  # fmt: skip
    made.face_template = np.array(
        [[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]]
    )
    folder = str(obtain(DETECTOR).parent)
    made.face_det = init_detection_model(DETECTOR, half=False, device="cpu", model_rootpath=folder)
    return made


def theirs(made: FaceRestoreHelper, network: Callable[[torch.Tensor], torch.Tensor], photo: npt.NDArray[np.uint8]) -> Any:
    """Restore as GFPGAN's program does, face by face; returns the picture and the number of faces."""
    made.clean_all()
    made.read_image(photo[:, :, ::-1].copy())
    made.get_face_landmarks_5(eye_dist_threshold=5)
    made.align_warp_face()
    for crop in made.cropped_faces:
        x = torch.from_numpy(crop[:, :, ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None] * 2 - 1
        with torch.no_grad():
            y = network(x)[0].clamp(-1, 1).add(1).div(2)
        made.add_restored_face((y.permute(1, 2, 0).numpy()[:, :, ::-1] * 255).round().astype(np.uint8))
    made.get_inverse_affine(None)
    return made.paste_faces_to_input_image(), len(made.cropped_faces)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=30, metavar="N", help="faces in the photograph (default: %(default)s)")
    parser.add_argument("--skip-network", action="store_true", help="leave the network out: crops come back as they are")
    parser.add_argument("--dtype", choices=GFPGAN_DTYPES, default="fp32", help="PFR's precision (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="the fastest of so many runs (default: %(default)s)")
    arguments = parser.parse_args()
    keep_memory()  # as the commands do; both gain by it
    photo, made = make_photo(arguments.faces), helper()
    torch.manual_seed(0)
    network = GFPGAN().eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"params_ema": network.state_dict()}, Path(folder) / "random.pth")
        model: FaceModel = load_face_model(Path(folder) / "random.pth")
    if arguments.skip_network:
        model.forward = lambda x: x.clone()
    restorer = FaceRestorer(model, DETECTOR, device="cpu", dtype=arguments.dtype)

    def their_network(x: torch.Tensor) -> torch.Tensor:
        return x if arguments.skip_network else network(x, return_rgb=False, randomize_noise=False)[0]

    times: dict[str, list[float]] = {HELPER: [], "PFR": []}
    for _ in range(arguments.repeats):
        started = time.process_time()
        _, found = theirs(made, their_network, photo)
        times[HELPER].append(time.process_time() - started)
        started = time.process_time()
        own = restorer.restore(photo, only_bad_faces=False)
        times["PFR"].append(time.process_time() - started)
    best = {name: min(seconds) for name, seconds in times.items()}
    height, width = photo.shape[:2]
    what = "without the network" if arguments.skip_network else "with the network"
    print(f"\n{arguments.faces} faces in {width} x {height} px, {what}; {torch.get_num_threads()} threads")
    print(f"faces found: {HELPER} {found}, PFR {len(own.faces)}\n")
    print("| | processor seconds |\n| --- | --- |")
    for name, seconds in best.items():
        print(f"| {name} | {seconds:.2f} |")
    print(f"| ratio | {best[HELPER] / best['PFR']:.2f} |")


if __name__ == "__main__":
    cv2.setNumThreads(torch.get_num_threads())
    main()
