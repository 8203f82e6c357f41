"""``--dry-run`` and ``benchmark``: what a run would need, measured on its own steps. No run is written."""

from __future__ import annotations

from dataclasses import replace

import torch

from pfr_core.errors import InputError
from pfr_core.support.text import markdown

from ..run.clock import Clock, peak_memory
from ..run.config import RunConfig
from ..run.engine import uses_bf16
from ..run.steps import Run
from .validate import open_validation

NO_TERMS = ("data/", "lr/", "steered/")
"""Reported beside the terms of the loss."""


def dry_run(config: RunConfig) -> str:
    """Load everything, take two steps, and tell: networks, memory, estimated time.

    Raises:
        PFRError: as the run itself would.
    """
    run = Run(replace(config, iterations=max(2, config.iterations)))
    open_validation(config, run.stage, run.data)
    lines = [f"{run.data}, {run.samples_per_step} a step, on {run.device}, {run.fabric.world_size} process(es)", ""]
    lines.append(network_table(run))
    run.take_step(Clock(run.device, exact=True))  # all regularisers are due at step 0; kernels are chosen
    clock = Clock(run.device, exact=True)
    terms = run.take_step(clock)
    seconds = sum(clock.seconds.values())
    rows = [[name, f"{value:.4f}"] for name, value in terms.items() if not name.startswith(NO_TERMS)]
    lines += [
        "",
        markdown(["term (weighted)", "at step 1"], rows),
        "",
        f"peak memory: {peak_memory(run.device):.2f} GiB",
        f"one step without regularisers: {seconds:.2f} s, of which data {clock.seconds['data']:.2f} s",
        f"{config.iterations} steps: about {config.iterations * seconds / 3600:.1f} hours (regularisers and validation on top)",
    ]
    return "\n".join(lines)


def benchmark(config: RunConfig, steps: int) -> str:
    """Tell faces a second over ``steps`` steps after the first two, and where the time goes.

    Raises:
        InputError: there are no steps, or the run cannot begin.
    """
    if steps < 1:
        raise InputError(f"--steps {steps}: must be at least 1.")
    run = Run(replace(config, iterations=steps + 2))
    for _ in range(2):  # kernels are chosen, workers have started
        run.take_step(Clock(run.device, exact=True))
    clock = Clock(run.device, exact=True)
    for _ in range(steps):
        run.take_step(clock)
    total = sum(clock.seconds.values())
    precision = "bf16" if uses_bf16(config.precision, run.device) else "fp32"
    lines = [
        f"{run.stage.title}, batch {config.samples} x {config.accumulate}, {precision}, "
        f"{run.device} ({device_name(run.device)}), {config.workers} workers, {steps} steps",
        "",
        f"{steps * run.samples_per_step / total:.3g} {run.data.unit} a second, peak memory {peak_memory(run.device):.2f} GiB",
        "",
        markdown(["part", "share of the time"], [[part, f"{seconds / total:.1%}"] for part, seconds in clock.seconds.items()]),
    ]
    return "\n".join(lines)


def network_table(run: Run) -> str:
    """Return a table of the networks and of the generator's parts."""

    def row(name: str, net: torch.nn.Module, note: str = "") -> list[str]:
        trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
        return [name, f"{count(net):,}", f"{trained:,}", note]

    rows = []
    for name, net in run.stage.networks.items():
        rows.append(row(name, net))
        rows += [row(f"- {part}", child) for part, child in net.named_children() if count(child)]
    rows += [row(name, net, "loss only") for name, net in run.stage.fixed.items()]
    return markdown(["network", "parameters", "trained", ""], rows)


def device_name(device: torch.device) -> str:
    """Return the card's name, or the number of threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"


def count(net: torch.nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
