"""What can be typed.

Nothing here imports torch or OpenCV: ``--help`` answers at once. The module that does the work is imported when it is known
which one (``main``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import get_args

from .. import __version__
from ..bulk import MANIFEST
from ..models.registry import GPEN_LICENCE, REGISTRY
from ..options import CHOOSE, DETECTION, FIND, NETWORK, ClipOptions, RestoreOptions, Setup
from ..support.arguments import Parser, add_options, file_path, program
from ..support.choices import CLIP_FORMATS, Blur, ExportType
from ..support.schema import names, specs

PHOTO_FORMATS = ("jpg", "png", "tif", "webp", "avif", "heic", "bmp")
FORMATS = (*PHOTO_FORMATS, *CLIP_FORMATS)
"""Endings that results can be given."""

OFF = "off"
"""A stage of the degradation that is left out."""

REPORT = "bulk report"
"""A command of two words, with options of its own; an archive called report is ``./report``."""


class _Parser(Parser):
    """A parser that knows :data:`REPORT`, which to argparse is one word."""

    def words(self, typed: list[str]) -> list[str]:
        return [REPORT, *typed[2:]] if typed[:2] == REPORT.split() else typed


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``pfr`` command; ``work`` says which module and function does what was asked for."""
    parser = _Parser(
        prog=program("pfr", "pfr_core"),
        description="Restore faces in photographs. A restored face is synthesised detail: it is no evidence of identity.",
    )
    parser.add_argument("--version", action="version", version=f"pfr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for add in (
        _add_restore,
        _add_bulk,
        _add_compare,
        _add_bench,
        _add_detect,
        _add_degrade,
        _add_models,
        _add_faces,
        _add_flicker,
    ):
        add(commands)
    return parser


def _add_restore(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``restore``."""
    parser = commands.add_parser(
        "restore",
        help="restore the faces of photographs and clips",
        description="Restore the faces of photographs and clips; everything else stays as it is, but for a JPEG's "
        "encoding. Format, bit depth, EXIF, ICC profile and transparency are kept. Outputs that exist are skipped.",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or patterns; - is standard input")
    parser.add_argument(
        "-o",
        "--output",
        type=file_path,
        required=True,
        metavar="OUT",
        help="file (for one input) or folder; - is standard output",
    )
    parser.add_argument("--format", choices=FORMATS, help="of the results in a folder, or in a pipe; each photo's own without it")
    parser.add_argument("--background", type=file_path, metavar="FILE", help="one input only: the photo enlarged by other means")
    parser.add_argument(
        "--compare",
        type=file_path,
        metavar="PATH",
        help="also write before | after: a file (for one input), or PNG files in a folder",
    )
    parser.add_argument("--overwrite", action="store_true", help="do outputs that exist again")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="photographs at once, each in a process (default: 1; for many on a CPU up to 4)",
    )
    _add_restoring(parser)
    clips = parser.add_argument_group("clips")
    add_options(clips, ClipOptions)
    clips.add_argument("--strengths", nargs="+", metavar="N=S", help="strength of single faces by their numbers, say 0=1 2=0.4")
    clips.add_argument("--resume", action="store_true", help="go on where an interrupted run with the same options ended")
    parser.set_defaults(work="restore.run")


def _add_bulk(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``bulk`` and its report."""
    parser = commands.add_parser(
        "bulk",
        help="restore an archive, on any number of machines",
        description="Restore the photographs of an archive on Ray, on this machine or a cluster, as `pfr restore` would. A run "
        "that is started again does only what is missing or failed. `pfr bulk report MANIFEST` tells what was done.",
    )
    parser.add_argument("input", metavar="INPUT", help="folder, address (s3://, gs://, https://) or list (.txt, .csv, .parquet)")
    parser.add_argument("output", metavar="OUTPUT", help="folder or address")
    parser.add_argument("--manifest", metavar="PLACE", help=f"where is written what was done (default: {MANIFEST} in OUTPUT)")
    parser.add_argument(
        "--again", action="store_true", help="do all again; the model or options may be others than in the last run"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace outputs that are there by no run of this command, or of another photograph",
    )
    parser.add_argument("--address", metavar="A", help="Ray cluster: auto, HOST:PORT or ray://HOST:PORT; none: this machine only")
    parser.add_argument("--actors", type=int, metavar="N", help="networks at once (default: as many as there is room for)")
    parser.add_argument("--gpus", type=float, metavar="G", help="GPUs for each network, 0.5 say (default: 1 if there are any)")
    parser.add_argument("--format", choices=PHOTO_FORMATS, help="of the results; each photo's own without it")
    _add_restoring(parser)
    parser.set_defaults(work="bulk.run")

    report = commands.add_parser(
        REPORT,
        help="tell what became of an archive",
        description="Tell what a manifest of `pfr bulk` holds: counts, the slowest photographs, errors and notices by kind.",
    )
    report.add_argument(
        "manifest", metavar="MANIFEST", help=f"folder or address: {MANIFEST} in the output, or what --manifest named"
    )
    report.add_argument("--html", type=file_path, metavar="FILE", help="also write a page with pairs before | after there")
    report.set_defaults(work="bulk.show_report")


def _add_restoring(parser: argparse.ArgumentParser) -> None:
    """Add how photographs are restored and results are written."""
    parser.add_argument("--aligned", action="store_true", help="the inputs are aligned square faces; restore them as a whole")
    parser.add_argument("--quality", type=int, metavar="Q", help="1-100, of JPEG, WebP, AVIF and HEIC; 95 or finer without")
    parser.add_argument(
        "--provenance", action=argparse.BooleanOptionalAction, default=True, help="record in the file that detail is synthesised"
    )
    _add_setup(parser)
    add_options(parser.add_argument_group("which faces, and how"), RestoreOptions)


def _add_compare(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``compare``."""
    parser = commands.add_parser(
        "compare",
        help="one photograph by several models, side by side",
        description="Restore the faces of a photograph with several models and write one picture: a row for each face, a column "
        "for each model, the input first.",
    )
    parser.add_argument("photo", type=file_path, metavar="PHOTO")
    parser.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="names of `weights list`, or model files")
    parser.add_argument("-o", "--output", type=file_path, required=True, metavar="SHEET", help="the picture to write")
    _add_setup(parser, only=[name for name in specs(Setup) if name != "model"])
    options = [name for name in specs(RestoreOptions) if name not in ("scale", "only_bad_faces")]
    add_options(parser.add_argument_group("which faces, and how"), RestoreOptions, only=options)
    parser.set_defaults(work="compare.run")


def _add_bench(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``bench``."""
    parser = commands.add_parser(
        "bench",
        help="time models on a photograph, stage by stage",
        description="Restore a photograph with several models in turn and print what each stage takes, in seconds, and how near "
        "the networks come to what this machine can do. Nothing is written but what --json names.",
    )
    parser.add_argument("photo", type=file_path, metavar="PHOTO", help="of the size and with the faces that matter to you")
    parser.add_argument("--models", nargs="+", default=["default"], metavar="MODEL", help="names of `weights list`, or files")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="restorations by each that count (default: 5)")
    parser.add_argument("--json", type=file_path, metavar="FILE", help="also write every round of every stage there")
    _add_setup(parser, only=[name for name in specs(Setup) if name != "model"])
    parser.set_defaults(work="bench.run")


def _add_detect(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``detect``."""
    parser = commands.add_parser("detect", help="list the faces of photographs, as JSON and as a picture")
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or patterns")
    parser.add_argument("--json", type=file_path, metavar="FILE", help="write the list there instead of to the terminal")
    parser.add_argument(
        "--annotate", type=file_path, metavar="FILE", help="picture with the faces drawn, or a folder for several"
    )
    _add_setup(parser, only=("detector", "device"))
    which = [name for name in names(RestoreOptions, FIND, CHOOSE) if name != "only_bad_faces"]
    add_options(parser.add_argument_group("which faces"), RestoreOptions, only=which)
    parser.set_defaults(work="detect.run")


def _add_degrade(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``degrade``."""
    parser = commands.add_parser(
        "degrade",
        help="degrade pictures by the paper's model (Eq. 17), for tests and comparisons",
        description="Degrade pictures by Eq. 17: blur, down-sampling, noise, JPEG, back to the input's size. Ranges are two "
        "numbers, a fixed value is one, 'off' leaves the stage out. The drawn parameters are printed as JSON.",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or patterns")
    parser.add_argument("-o", "--output", type=file_path, required=True, metavar="OUT", help="file (for one input) or folder")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same result (default: 0)")
    parser.add_argument("--bicubic", action="store_true", help="only the 4x bicubic task: shrink four times, enlarge back")
    parser.add_argument("--blur", nargs="+", metavar="KIND", help=f"{', '.join(get_args(Blur))} or {OFF}")
    for name, text in (
        ("sigma", "standard deviation of the Gaussian in px"),
        ("motion-length", "length of motion blur in px"),
        ("scale", "s, shrink by this factor"),
        ("noise", "delta, standard deviation of the noise in 8-bit units"),
        ("quality", "q, JPEG quality"),
    ):
        parser.add_argument(f"--{name}", nargs="+", metavar="V", help=text)
    parser.set_defaults(work="degrade.run")


def _add_faces(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``faces``."""
    parser = commands.add_parser(
        "faces",
        help="show the faces of a clip with their numbers",
        description="Find the faces of a clip and follow them, and write one picture of them with their numbers: those that "
        "`restore --select index --indices` and `--strengths` take. Also printed as JSON, with the frames that each is in.",
    )
    parser.add_argument("clip", type=file_path, metavar="CLIP")
    parser.add_argument("-o", "--output", type=file_path, required=True, metavar="SHEET", help="the picture to write")
    _add_setup(parser, only=("detector", "device"))
    add_options(parser.add_argument_group("which faces"), RestoreOptions, only=DETECTION)
    add_options(parser.add_argument_group("which part"), ClipOptions, only=("detect_every", "start", "end", "fps"))
    parser.set_defaults(work="clips.show_faces")


def _add_flicker(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``flicker``."""
    parser = commands.add_parser(
        "flicker",
        help="measure how much the faces of clips flicker",
        description="Measure how much the faces flicker in results of one clip, and in the clip itself: the warping error inside "
        "the faces, the trembling of their points, how alike a face stays, and their sharpness. Printed as JSON.",
    )
    parser.add_argument(
        "source", type=file_path, metavar="CLIP", help="the clip before restoration, whose motion is taken for true"
    )
    parser.add_argument("clips", nargs="*", type=file_path, metavar="RESULT", help="results to compare with it and each other")
    parser.add_argument("--plot", type=file_path, metavar="FILE.svg", help="also draw the figures frame by frame there")
    _add_setup(parser, only=("detector", "device"))
    parser.set_defaults(work="clips.show_flicker")


def _add_models(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``weights``, ``import-gpen``, ``export`` and ``info``."""
    weights = commands.add_parser("weights", help="list, find or download weights")
    actions = weights.add_subparsers(dest="action", required=True, metavar="list|path|download")
    listing = actions.add_parser("list", help="what there is, its licence, and whether it is on disk")
    listing.set_defaults(work="models.list_weights")
    path = actions.add_parser("path", help="where a file is; exit status 1 if it is not on disk")
    path.add_argument("name", choices=REGISTRY)
    path.set_defaults(work="models.show_path")
    download = actions.add_parser("download", help="download a file, unless it is on disk")
    download.add_argument("name", choices=REGISTRY)
    download.set_defaults(work="models.download_weights")

    gpen = commands.add_parser(
        "import-gpen",
        help="convert a GPEN checkpoint",
        description="Convert a GPEN generator to safetensors. With a discriminator: make a PFR for training to start from, "
        "which returns GPEN's own output until it is trained, and write the discriminator beside it. " + GPEN_LICENCE,
    )
    gpen.add_argument("generator", type=file_path, metavar="G.pth")
    gpen.add_argument("--discriminator", type=file_path, metavar="D.pth")
    gpen.add_argument("-o", "--output", type=file_path, required=True, metavar="OUT.safetensors")
    gpen.set_defaults(work="models.import_gpen")

    export = commands.add_parser(
        "export",
        help="write a model as ONNX",
        description="Write a model as ONNX, for programs without torch: one input [B,3,S,S], RGB in [-1,1], one output like it. "
        "The file is compared with torch before it is kept.",
    )
    export.add_argument("model", metavar="MODEL", help="model file, or a name of `weights list`")
    export.add_argument("-o", "--output", type=file_path, required=True, metavar="OUT.onnx")
    export.add_argument("--dtype", choices=get_args(ExportType), default="fp32", help="precision (default: fp32)")
    add_options(export, RestoreOptions, only=names(RestoreOptions, NETWORK))
    export.set_defaults(work="models.export")

    info = commands.add_parser("info", help="what is in a model file")
    info.add_argument(
        "file",
        metavar="FILE",
        help="a file that PFR wrote, another model's, or a name of `weights list`, such as 'builtin', the embedded face detector",
    )
    info.set_defaults(work="models.show_info")


def _add_setup(parser: argparse.ArgumentParser, *, only: Sequence[str] | None = None) -> None:
    """Add the options of :class:`Setup`, or those that are named, and ``--verbose``."""
    add_options(parser, Setup, only=only)
    parser.add_argument("--verbose", action="store_true", help="tell what happens; with restore also the time of each stage")
