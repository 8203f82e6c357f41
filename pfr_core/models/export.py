"""Restoration networks as ONNX, for programs that have no torch; PFR itself reads such a file like any other model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..network.face_model import FaceModel
from ..support.choices import ExportType
from ..support.device import DTYPES, check_borne
from ..support.files import replacing
from .kinds.onnx import OnnxModel
from .load import ONNX

AGREEMENT: Mapping[ExportType, float] = {"fp32": 1e-3, "fp16": 2e-2}
"""By how much a pixel in [0,1] may differ from torch's in float32 (ours): half precision has three digits."""

LARGEST_BATCH = 1024


def check_export(target: Path) -> None:
    """Look whether networks can be written as ONNX here, and as ``target``, as far as that is known before one is read.

    Raises:
        InputError: another suffix.
        CheckpointError: a package is missing.
    """
    if target.suffix.lower() != ONNX:
        raise InputError(f"{target}: the file must end in {ONNX}.")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CheckpointError(
            f"Export needs packages of its own: python -m pip install onnxruntime onnxscript ({error})"
        ) from error


def export_onnx(
    net: FaceModel,
    target: Path,
    *,
    dtype: ExportType = "fp32",
    options: Mapping[str, float] | None = None,
    facts: Mapping[str, str] | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> float:
    """Write a network as ONNX: ``input`` [B,3,S,S] RGB in [-1,1] -> ``output``, the same; B is free.

    Its size, range, licence and options stand in the file's metadata. The file is run by onnxruntime and compared with torch
    before it gets its name.

    Args:
        net: the network, in eval mode; it is left in ``dtype``.
        target: ends in ``.onnx``.
        dtype: precision of the weights and pixels.
        options: values of ``net.options``, which stay so in the file; missing ones keep the network's defaults.
        facts: what else is to stand in the metadata.
        report: told what is being done, for it takes minutes with large networks.

    Returns:
        The largest difference from torch in float32, of pixels in [0,1].

    Raises:
        InputError: a precision that the network does not bear, a network that is ONNX already, or another suffix.
        CheckpointError: a package is missing, torch cannot export this network, the results differ, or ``target`` cannot be
            written.
    """
    check_export(target)
    if isinstance(net, OnnxModel):
        raise InputError(f"{net.path}: is ONNX already.")
    check_borne(dtype, net.dtypes)
    import onnx

    options = dict(options or {})
    faces = torch.rand(2, 3, net.size, net.size, generator=torch.Generator().manual_seed(0))
    net.float()  # outside inference mode, which would mark the parameters
    with torch.inference_mode():
        wanted = net.restore(faces, **options)
    net.to(DTYPES[dtype])
    told = {
        "size": str(net.size),
        "range": json.dumps(net.range),
        "licence": net.licence,
        "options": json.dumps(options),
        **(facts or {}),
    }
    with replacing(target, CheckpointError) as temporary:
        report(f"exporting {net.kind}, {net.size} px")
        written = temporary.with_suffix(ONNX)
        try:
            _write(_Image(net, options), net.size, written)
            content = onnx.load(written)
            onnx.helper.set_model_props(content, told)
            onnx.save(content, written)
            report("comparing onnxruntime with torch")
            with torch.inference_mode():
                found = OnnxModel(written).eval().restore(faces)
            written.replace(temporary)
        finally:
            written.unlink(missing_ok=True)
        difference = float((found - wanted).abs().max())
        if not difference <= AGREEMENT[dtype]:
            raise CheckpointError(
                f"{target}: not written: onnxruntime's pixels differ from torch's by {difference:.2g}. Try fp32."
            )
    return difference


class _Image(nn.Module):
    """A network with its options fixed."""

    def __init__(self, net: FaceModel, options: Mapping[str, float]) -> None:
        super().__init__()
        self.net, self.options = net, dict(options)

    def forward(self, input: Tensor) -> Tensor:
        image: Tensor = self.net(input, **self.options)
        return image


def _write(net: nn.Module, size: int, path: Path) -> None:
    """Export, with the batch free.

    Raises:
        CheckpointError: torch cannot.
    """
    example = torch.zeros(2, 3, size, size, dtype=next(net.parameters()).dtype)
    try:
        torch.onnx.export(
            net.eval(),
            (example,),
            path,
            input_names=["input"],
            output_names=["output"],
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},),
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise CheckpointError(f"torch cannot export this network as ONNX ({str(error).splitlines()[0]}).") from error
