"""Clips: faces followed from frame to frame, their restored texture held still."""

from __future__ import annotations

import uuid
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..pfr_core.compose import Canvas, paste_faces
from ..pfr_core.faces.face import Face
from ..pfr_core.options import ClipOptions, clip_options
from ..pfr_core.photo.arrays import to_uint8
from ..pfr_core.support.choices import DetectorName
from ..pfr_core.support.notice import beside_no_face
from ..pfr_core.support.schema import specs
from ..pfr_core.video import check_av
from ..pfr_core.video.track import Follower
from ..pfr_core.video.tracked import TrackRestorer
from . import inputs, runtime
from .detect import NONE_CHOSEN, Faces
from .images import NOTHING_RESTORED, Batch, Frames, before_after
from .model import CATEGORY

HOLDING, LATER = ("steady", "detect_every"), ("restore_every",)
"""What there is to choose for frames, of :class:`ClipOptions`; later ones come last, for graphs hold the values in order."""
FOUND = tuple(name for name in inputs.FINDING if name != "order")
"""Faces are numbered as they appear, whatever the order."""
ANEW = (
    "Goes on had no effect, and faces are numbered from 0: this node has not finished a batch before with this model, size and "
    "these widgets."
)


def _widgets() -> dict[str, Any]:
    pasting = [name for name in inputs.PASTING if name != "strength"]
    found = inputs.widgets((*FOUND, *pasting))
    return {**inputs.widgets(("strength",)), **_holding(HOLDING), "detector": inputs.DETECTOR, **found}


def _holding(which: tuple[str, ...]) -> dict[str, Any]:
    return {name: inputs.widget(specs(ClipOptions)[name]) for name in which}


def _clip_options(values: dict[str, Any]) -> tuple[ClipOptions, tuple[str, ...]]:
    """Return how faces are held still, taken out of the widgets' values, and a sentence for each widget without effect."""
    clip, idle = clip_options({name: values.pop(name) for name in (*HOLDING, *LATER) if name in values})
    labels = [specs(ClipOptions)[name].label for name in idle]
    return clip, tuple(f"{label} was ignored: with steady 0 each frame is restored anew." for label in labels)


def _part(video: Any) -> tuple[str | None, str | None]:
    """Return where in its file a VIDEO begins and ends, as clips' options: newer cores keep a cut beside the file."""
    start, seconds = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    return f"{start:.6f}" if start else None, f"{start + seconds:.6f}" if seconds else None


class PFRRestoreClip:
    """Frames of a clip -> the same with their faces restored."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Restores the faces in the frames of a clip: each face is followed through the frames, so that it neither trembles nor "
        "vanishes, and its restored texture is held still. A longer clip may come in several batches. "
        "Restored detail is synthesised; it is no evidence of identity."
    )
    SEARCH_ALIASES = ("face restoration", "video", "flicker", "temporal", "steady", "GFPGAN", "CodeFormer", "ReActor")
    RETURN_TYPES = ("IMAGE", "MASK", "PFR_FACES", "INT")
    RETURN_NAMES = ("image", "mask", "faces", "count")
    OUTPUT_TOOLTIPS = (
        "The restored frames.",
        "How much of each pixel is restored face.",
        "The faces that were restored, frame by frame.",
        "How many faces were followed.",
    )
    FUNCTION = "restore"
    HAS_INTERMEDIATE_OUTPUT = True  # newer cores show it again after a reload, though nothing runs

    def __init__(self) -> None:
        self._past: tuple[object, Any, Any] | None = None  # how, and what follows and restores: ComfyUI keeps a node's object

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        goes_on = "This batch goes on where the last one of this node ended: for a clip in several batches. A cut begins anew."
        return {
            "required": {
                "model": ("PFR_MODEL", {"tooltip": "From Load Face Restoration Model."}),
                "image": ("IMAGE", {"tooltip": "The frames, in order."}),
                **_widgets(),
                "goes_on": ("BOOLEAN", {"default": False, "tooltip": goes_on}),
            },
            "optional": {**inputs.widgets(inputs.OF_MODELS), **_holding(LATER)},
        }

    def restore(
        self, model: runtime.LoadedModel, image: Tensor, detector: DetectorName, goes_on: bool, **values: Any
    ) -> dict[str, Any]:
        frames, (clip, idle) = Frames(image), _clip_options(values)
        restorer = model.restorer(detector)
        widgets = inputs.options(values, clip=True, has=restorer.model_options)
        runtime.fetch_around(detector)
        how = (model.name, detector, clip, widgets, image.shape[1:3])
        past = self._past if goes_on and self._past is not None and self._past[0] == how else None
        said = (*widgets.ignored, *idle, *([ANEW] if goes_on and past is None else []))
        steps, notices = runtime.Steps(len(frames), rounds=2), runtime.Notices(len(frames), said)
        self._past = None  # after an interruption it would have seen half of this batch
        follower = Follower(restorer.detector, widgets.options, clip.detect_every) if past is None else past[1]
        follower.detector = restorer.detector
        begun, broken = follower.frames, set[int]()
        for number, frame in enumerate(frames):
            with steps.frame(number):
                finite = notices.finite(number, frame)
                if not finite:
                    broken.add(number)
                follower.take(to_uint8(frame[..., :3] if finite else np.zeros_like(frame[..., :3])), runtime.interrupted)
        found = follower.found()
        found = found.only(track.number for track in found.tracks if track.last >= begun)  # the others ended in an earlier batch
        chosen, noticed = ([], [NONE_CHOSEN]) if widgets.none else found.chosen(widgets.options)
        notices.add(None, noticed if found.tracks or noticed else [runtime.NOTHING_FOUND])
        if chosen:
            runtime.fetch_around("auto", widgets.options.mask)
        work = TrackRestorer(restorer, chosen, widgets.options, clip, scenes=found.scenes)
        work.steady = {} if past is None else past[2]
        images, masks, ui = Batch(len(frames)), Batch(len(frames)), NOTHING_RESTORED
        every: list[list[Face]] = []
        for number, frame in enumerate(frames):
            with steps.frame(number):
                if number in broken:
                    every.append([])
                    pasted = paste_faces(
                        Canvas(frame, widgets.options.scale), [], options=widgets.options, parser=restorer.parser
                    )
                else:
                    present = work.present(begun + number, (frame.shape[1], frame.shape[0]))
                    every.append([track.face(begun + number) for track in present])
                    pasted = work.restore(begun + number, frame, runtime.interrupted)
                notices.add(number, pasted.notices)
            images.append(pasted.image)
            masks.append(pasted.mask)
            if every[-1] and ui is NOTHING_RESTORED:
                ui = before_after(frame, pasted.image, every[-1])
        restorer.detector.release()  # kept with its follower, but not on the card
        self._past = how, follower, work.steady
        faces = Faces(every, *image.shape[1:3])
        result = (images.result(image), masks.result(image[..., 0]), faces, len(chosen))
        return {"ui": {**ui, **notices.ui()}, "result": result}


class PFRRestoreVideo:
    """A VIDEO -> the same with its faces restored, its sound, its times."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Restores the faces of a video and keeps its sound, times and all else, however long it is: it is read and written frame "
        "by frame. Restored detail is synthesised; it is no evidence of identity."
    )
    SEARCH_ALIASES = ("face restoration", "video", "flicker", "film", "clip", "GFPGAN", "CodeFormer")
    RETURN_TYPES = ("VIDEO", "INT")
    RETURN_NAMES = ("video", "count")
    OUTPUT_TOOLTIPS = ("The restored video, for Save Video.", "How many faces were followed.")
    FUNCTION = "restore"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("PFR_MODEL", {"tooltip": "From Load Face Restoration Model."}),
                "video": ("VIDEO", {"tooltip": "From Load Video."}),
                **_widgets(),
            },
            "optional": {**inputs.widgets(inputs.OF_MODELS), **_holding(LATER)},
        }

    def restore(self, model: runtime.LoadedModel, video: Any, detector: DetectorName, **values: Any) -> dict[str, Any]:
        import folder_paths
        from comfy.utils import ProgressBar
        from comfy_api.input_impl import VideoFromFile

        check_av()
        from ..pfr_core.video.restore import follow, footage_of, restore_clip
        from ..pfr_core.video.unfinished import Unfinished

        start, end = _part(video)
        clip, idle = _clip_options(values)
        clip, restorer = replace(clip, start=start, end=end), model.restorer(detector)
        widgets = inputs.options(values, clip=True, has=restorer.model_options)
        notices = runtime.Notices(1, (*widgets.ignored, *idle))
        if widgets.none and widgets.options.scale == 1:
            notices.add(0, [NONE_CHOSEN])
            return {"ui": notices.ui(), "result": (video, 0)}
        runtime.fetch_around(detector)
        bars: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int, left: float) -> None:
            if stage not in bars:
                bars[stage] = ProgressBar(total)
            bars[stage].update_absolute(done, total)

        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        own, target = (folder / f"pfr_{uuid.uuid4().hex}.mp4" for _ in range(2))
        try:
            edited = getattr(video, "has_pending_frame_edits", lambda: False)()  # newer cores crop and resize where it is saved
            # What has no file yet can be saved; 0.3.64's Create Video fails to give it as a stream.
            source = video.get_stream_source() if isinstance(video, VideoFromFile) and not edited else None
            if source is None:
                video.save_to(str(own))
                source, clip = own, replace(clip, start=None, end=None)
            elif isinstance(source, BytesIO):
                own.write_bytes(source.getbuffer())
                source = own
            chosen = widgets.options
            how: dict[str, Any] = {"progress": progress, "should_stop": runtime.interrupted}
            found = follow(restorer.detector, footage_of(source, clip), chosen, clip, **how)
            picked, noticed = ([], (NONE_CHOSEN,)) if widgets.none else found.chosen(chosen)
            if picked:
                runtime.fetch_around("auto", chosen.mask)
            missing = [notice for notice in noticed if notice.kind == "missing_face"]
            if missing and not picked:  # numbers that no face has: a notice, as for single pictures
                notices.add(0, missing)
                found, chosen = found.only(()), replace(chosen, select="all", indices=())
            result = restore_clip(restorer, source, target, options=chosen, clip=clip, found=found, **how)
        except BaseException:  # ComfyUI's own of a stop, too: nobody could go on with what has this name
            Unfinished(target).remove()
            raise
        finally:
            own.unlink(missing_ok=True)
        said = [notice for notice, _ in result.notices]
        if missing:  # it says how many were found
            said = beside_no_face(said)
        elif not (result.tracks or said):
            said = [runtime.NOTHING_FOUND]
        notices.add(0, said)
        return {"ui": notices.ui(), "result": (VideoFromFile(str(result.path)), len(result.tracks))}
