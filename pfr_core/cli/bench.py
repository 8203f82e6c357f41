"""``pfr bench``."""

from __future__ import annotations

import argparse
import json
import sys

from tqdm import tqdm

from ..bench import bench
from ..faces.detect import Detector
from ..options import RestoreOptions, Setup
from ..photo.read import read_bytes
from ..photo.write import write_file
from ..restorer import FaceRestorer
from ..support.arguments import chosen
from ..support.device import keep_memory
from .common import fetch_models
from .inputs import checked_json


def run(arguments: argparse.Namespace) -> int:
    """Time every model and print the table; returns the exit status.

    Raises:
        InputError: ``--json`` names a folder or a picture.
    """
    checked_json(arguments.json, "the figures, say bench.json")
    options, setup = RestoreOptions(only_bad_faces=False), Setup(**chosen(arguments, Setup))
    data = read_bytes(arguments.photo)
    device = fetch_models(arguments.models, setup, options)
    if device.type == "cpu":
        keep_memory()
    detector = Detector(setup.detector, device)
    restorers = {
        model: FaceRestorer(model, detector, device=setup.device, dtype=setup.dtype, batch_size=setup.batch_size, options=options)
        for model in arguments.models
    }
    with tqdm(total=len(restorers) * (arguments.rounds + 1), disable=not sys.stderr.isatty()) as bar:
        found = bench(arguments.photo, data, restorers, rounds=arguments.rounds, progress=bar.update)
    print(found.table())
    if arguments.json is not None:
        write_file(arguments.json, (json.dumps(found.to_dict(), indent=2) + "\n").encode())
    return 0
