"""Two processes compute what one does with the doubled batch, in all four phases and with gradient accumulation."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from pathlib import Path
import torch
from trainer.run.clock import Clock
from trainer.run.config import load_config
from trainer.run.steps import Run

torch.set_num_threads(1)
for name in sys.argv[2:]:
    run = Run(load_config(Path(sys.argv[1]) / f"{name}.json"))
    found = {}
    drawn = [next(run.batches) for _ in range(run.config.accumulate)]
    run.stage.path_mean = 0.1
    for phase in run.stage.phases:
        run.gradients(phase, drawn)
        names = {id(p): n for n, p in run.stage.networks.named_parameters()}
        found[phase.name] = {names[id(p)]: p.grad.clone() for p in phase.parameters if p.grad is not None}
    run.step = 0
    values = run.take_step(Clock(run.device, exact=False))  # of the next samples, with everything that is steered
    if run.fabric.is_global_zero:
        steered = {k: v for k, v in values.items() if not k.startswith("time/")}
        torch.save({"world": run.fabric.world_size, "gradients": found, "values": steered}, Path(sys.argv[1]) / f"{name}.pt")
"""


@pytest.fixture(scope="module")
def results(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Gradients of both stages, by one process and by two."""
    from trainer.run.config import PriorConfig, RestoreConfig

    folder = tmp_path_factory.mktemp("processes")
    common: dict[str, Any] = {
        "data": str(faces),
        "network": "pfr-256-lite",
        "size": 16,
        "accumulate": 2,
        "stddev_group": 2,  # fits into one process
        "path_weight": 2.0,
        "precision": "fp32",
        "device": "cpu",
        "workers": 0,
        "iterations": 10,
    }
    adversarial: dict[str, Any] = {"fm_weight": 0.0, "fp_weight": 0.0, "local_channels": 4, "freeze_d": 2}
    for name, batch in (("one", 4), ("two", 2)):
        PriorConfig(**common, batch=batch, augment=0.7).save(folder / f"prior-{name}.json")
        RestoreConfig(**common, **adversarial, batch=batch).save(folder / f"restore-{name}.json")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    with socket.socket() as probe:  # a fixed port would clash with another test run on this machine
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", port]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for launcher, names in (([], ["prior-one", "restore-one"]), (torchrun, ["prior-two", "restore-two"])):
        command = [sys.executable, *launcher, str(script), str(folder), *names]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return {name: torch.load(folder / f"{name}.pt") for name in ("prior-one", "prior-two", "restore-one", "restore-two")}


@pytest.mark.parametrize("stage", ["prior", "restore"])
def test_gradients_are_those_of_one_process(results: dict[str, Any], stage: str) -> None:
    one, two = results[f"{stage}-one"], results[f"{stage}-two"]
    assert (one["world"], two["world"]) == (1, 2)
    assert list(one["gradients"]) == ["Gmain", "Greg", "Dmain", "Dreg"]
    for phase, gradients in one["gradients"].items():
        others = two["gradients"][phase]
        assert gradients.keys() == others.keys() and gradients
        scale = max(value.abs().max() for value in gradients.values())
        assert scale > 0, phase
        for name, value in gradients.items():
            assert (value - others[name]).abs().max() < 1e-3 * scale, (phase, name)  # float32 sums in another order


@pytest.mark.parametrize("stage", ["prior", "restore"])
def test_reported_and_steered_values_are_those_of_one_process(results: dict[str, Any], stage: str) -> None:
    one, two = results[f"{stage}-one"]["values"], results[f"{stage}-two"]["values"]
    assert one.keys() == two.keys() and "steered/path_mean" in one
    assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
