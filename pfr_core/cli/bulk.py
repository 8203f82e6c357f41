"""``pfr bulk`` and ``pfr bulk report``."""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from pathlib import PurePath, PurePosixPath

from ..bulk import MANIFEST, check_packages
from ..errors import InputError
from ..models.registry import REGISTRY, dtypes_of
from ..options import RestoreOptions, Setup
from ..photo.photo import is_meant
from ..support.arguments import chosen
from ..support.device import check_borne
from ..support.files import write_text
from .common import fetch_all, fetch_around
from .restore import refuse_lacking, refuse_useless


def show_report(arguments: argparse.Namespace) -> int:
    """Tell what a manifest holds; returns the exit status.

    Raises:
        InputError: there is none, or a package of the extra is missing.
        ImageError: it cannot be read.
    """
    check_packages()
    from ..bulk.manifest import Manifest
    from ..bulk.report import page, report

    figures = report(Manifest(arguments.manifest))
    print("\n".join(figures.lines))
    if arguments.html is not None:
        write_text(arguments.html, page(figures))
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Restore an archive; returns the exit status.

    Raises:
        InputError: an option out of its range or of no use, or a package of the extra is missing.
        ImageError: the archive or its manifest cannot be read.
    """
    check_packages()
    if arguments.actors is not None and arguments.actors < 1:
        raise InputError(f"--actors is {arguments.actors}; it must be at least 1.")
    if arguments.gpus is not None and not arguments.gpus >= 0:
        raise InputError(f"--gpus is {arguments.gpus:g}; it must be at least 0.")
    from ..bulk import places
    from ..bulk.manifest import Manifest, look_back, storable
    from ..bulk.plan import list_inputs, plan, refuse_moved, refuse_nested, refuse_replaced
    from ..bulk.run import Cluster, connect, dashboard, run
    from ..bulk.stages import Recipe

    options, setup = RestoreOptions(**chosen(arguments, RestoreOptions)), Setup(**chosen(arguments, Setup))
    refuse_nested(arguments.input, arguments.output)
    tasks = plan(list_inputs(arguments.input), arguments.output, arguments.format)
    refuse_useless(arguments, {PurePosixPath(task.output).suffix for task in tasks})
    if setup.model in REGISTRY:
        refuse_lacking(arguments, options, setup.model, REGISTRY[setup.model].options)
    check_borne(setup.dtype, dtypes_of(setup.model))  # before it is downloaded; the devices are the cluster's
    fetch_all([setup.model])
    if not arguments.aligned:
        fetch_around(setup.detector, options.mask)
    recipe = Recipe(setup, options, arguments.aligned, arguments.quality, arguments.provenance)
    choices = recipe.choices()
    manifest = Manifest(arguments.manifest or places.join(places.absolute(arguments.output), MANIFEST))
    output = places.absolute(arguments.output)
    there = {storable(place) for _, place in places.files_in(output)}
    # Folders are not looked through for hidden names, which a list may hold, nor behind links.
    listed, is_folder = {os.path.dirname(place) for place in there}, cache(os.path.isdir)

    def is_unlisted(place: str) -> bool:
        folder = os.path.dirname(place)
        return not is_meant(PurePath(place[len(output) :].lstrip("/"))) or (folder not in listed and is_folder(folder))

    there |= {storable(task.output) for task in tasks if is_unlisted(task.output) and places.exists(task.output)}
    earlier = look_back(manifest, choices, arguments.again)
    done = {pair for pair in earlier.done if pair[1] in there}
    todo = [task for task in tasks if (storable(task.input), storable(task.output)) not in done]
    refuse_moved(todo, earlier, output)
    if not arguments.overwrite:
        refuse_replaced(todo, earlier, there)
    if len(todo) < len(tasks):
        print(f"{len(tasks) - len(todo)} of {len(tasks)} were done before")
    if not todo:
        return 0
    gpus, actors = connect(Cluster(arguments.address, arguments.actors, arguments.gpus), on_cpu=setup.device == "cpu")
    if url := dashboard():
        print(f"dashboard: {url}", file=sys.stderr)
    summary = run(todo, recipe, choices, manifest, gpus, actors, [task.input for task in todo] if arguments.again else ())
    print(f"{summary.result(len(todo))}; manifest: {manifest.place}", file=sys.stderr)
    return 1 if summary.counts["failed"] else 0
