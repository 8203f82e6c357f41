"""`pfr bulk` on several Ray nodes here: what is lost when processes die, how flat memory is, time beside `pfr restore`.

python benchmarks/bulk.py deaths [--photos 2000] [--nodes 3] [--every 5]
python benchmarks/bulk.py memory [--counts 500 5000]
python benchmarks/bulk.py time [--photos 200]

Photographs are example photographs degraded by Eq. 17, each drawn anew. `deaths` kills a worker with SIGKILL every few seconds, a
whole node, and once the command itself, which is started again. `memory` adds up the proportional set sizes of the command and
all workers. `time` compares one worker with two, and one with `pfr restore`; every process has one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray.cluster_utils import Cluster

from pfr_core import PFR, PFRConfig, save_model
from pfr_core.bulk import MANIFEST
from pfr_core.bulk.manifest import Manifest
from pfr_core.degradation import Degradation
from pfr_core.photo.arrays import resize, to_uint8
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ("astronaut.jpg", "degraded.jpg", "two_faces.jpg")
STORE = 80 << 20
"""Bytes of a node's object store, the least that Ray takes."""
WORKERS = b"AllStages"
"""What Ray calls the processes that restore."""


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("deaths", "memory", "time"))
    parser.add_argument("--photos", type=int, help="how many (default: 2000 for deaths, 200 for time)")
    parser.add_argument("--side", type=int, default=160, help="of the photographs in px")
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5000], help="of photographs, for memory")
    parser.add_argument("--nodes", type=int, default=3, help="of one processor each, for deaths")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between deaths")
    parser.add_argument("--model", help="as `pfr restore` (default: a small network with random weights, for memory and deaths)")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # so Ray spells it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or ("default" if arguments.what == "time" else str(small_model(folder / "small.safetensors")))
        if arguments.what == "deaths":
            deaths(folder, model, arguments.photos or 2000, arguments.side, arguments.nodes, arguments.every)
        elif arguments.what == "memory":
            memory(folder, model, arguments.counts, arguments.side)
        else:
            times(folder, model, arguments.photos or 200, arguments.side)


def deaths(folder: Path, model: str, photos: int, side: int, nodes: int, every: float) -> None:
    """Kill, go on, and compare with what `pfr restore` makes."""
    make(folder / "photos", photos, side)
    run("restore", folder / "photos", "-o", folder / "restored", "--jobs", "1", model=model)
    out, stop, killed, lost = folder / "bulk", threading.Event(), list[int](), list[str]()
    with cluster(nodes) as running:
        command = start("bulk", folder / "photos", out, "--address", running.address, model=model)
        killer = threading.Thread(target=kill, args=(running, out, every, stop, killed, lost), daemon=True)
        killer.start()
        while command.poll() is None and len(digests(out)) < photos // 2:
            time.sleep(0.2)
        command.kill()
        command.wait()
        half = len(digests(out))
        again = run("bulk", folder / "photos", out, "--address", running.address, model=model)
        stop.set()
        killer.join()
    before = re.search(r"(\d+) of \d+ were done before", again.stdout)
    rows = Manifest(str(out / MANIFEST)).rows().to_pylist()
    listed = {str(Path(row["output"]).relative_to(out)): row["sha256"] for row in rows}
    print(
        f"workers killed: {len(killed)}; nodes: {len(lost)} of {nodes}; the command: once, with {half} of {photos} results there"
    )
    print(f"done before, says the second run: {before.group(1) if before else 0}; its exit status: {again.returncode}")
    print(
        f"results: {len(digests(out))}; rows: {len(rows)}; files equal to those of pfr restore and to the rows' hashes: ", end=""
    )
    print(digests(folder / "restored") == digests(out) == listed)


def memory(folder: Path, model: str, counts: list[int], side: int) -> None:
    """Print the peak of all processes for each count, in one table."""
    print("| photographs | peak of the command, MB | of the command and two workers |\n| --- | --- | --- |")
    for count in counts:
        make(folder / f"{count}", count, side)
        with cluster(2) as running:
            command = start("bulk", folder / f"{count}", folder / f"{count}-out", "--address", running.address, model=model)
            alone = together = 0.0
            while command.poll() is None:
                own = resident(command.pid)
                alone, together = max(alone, own), max(together, own + sum(resident(pid) for pid in workers()))
                time.sleep(0.5)
        assert command.returncode == 0
        print(f"| {count} | {alone:.0f} | {together:.0f} |", flush=True)


def times(folder: Path, model: str, photos: int, side: int) -> None:
    """Print photographs a second of `pfr restore` in one process, and of `pfr bulk` with one worker and with two."""
    make(folder / "photos", photos, side)
    began = time.perf_counter()
    run("restore", folder / "photos", "-o", folder / "restored", "--jobs", "1", model=model)
    alone = time.perf_counter() - began
    print(f"| {photos} photographs | seconds | beside pfr restore |\n| --- | --- | --- |\n| pfr restore | {alone:.1f} | 1.00 |")
    with cluster(2) as running:
        for actors in (1, 2):
            run("bulk", folder / "photos" / "0", folder / f"warm{actors}", "--address", running.address, model=model)
            began = time.perf_counter()
            out = folder / f"bulk{actors}"
            run("bulk", folder / "photos", out, "--address", running.address, "--actors", actors, model=model)
            seconds = time.perf_counter() - began
            print(f"| pfr bulk --actors {actors} | {seconds:.1f} | {seconds / alone:.2f} |", flush=True)


def make(folder: Path, count: int, side: int) -> None:
    """Write degraded example photographs, ten folders of them."""
    originals = [to_uint8(resize(read_photo(ROOT / "examples" / name).pixels, side, side)) for name in EXAMPLES]
    for number in range(count):
        degraded, _ = Degradation()(originals[number % len(originals)], seed=number)
        write_photo(folder / f"{number % 10}" / f"{number:05d}.jpg", degraded)


def small_model(path: Path) -> Path:
    """Return a network that changes every face and costs little."""
    net = PFR(PFRConfig(size=64, narrow=0.125, style_dim=64, n_mlp=2))
    save_model(net, path, provenance={}, licence="none")
    return path


@contextmanager
def cluster(nodes: int) -> Iterator[Cluster]:
    """Run Ray with so many nodes of one processor; the first, which leads, is never killed."""
    settings = {"num_cpus": 1, "object_store_memory": STORE}
    running = Cluster(initialize_head=True, head_node_args={**settings, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            running.add_node(**settings)
        yield running
    finally:
        running.shutdown()


def kill(running: Cluster, out: Path, every: float, stop: threading.Event, killed: list[int], lost: list[str]) -> None:
    """Kill a worker every so many seconds once there are results, and a node after the third."""
    while not stop.wait(every):
        if not digests(out):
            continue
        if alive := [pid for pid in workers() if pid not in killed]:
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(alive[0], signal.SIGKILL)
                killed.append(alive[0])
        if len(killed) >= 3 and not lost:
            node = next(iter(running.worker_nodes))
            lost.append(node.node_id)
            running.remove_node(node, allow_graceful=False)


def workers() -> list[int]:
    """Return the processes that restore."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # gone meanwhile
            if WORKERS in line.read_bytes():
                found.append(int(line.parent.name))
    return found


def resident(pid: int) -> float:
    """Return the proportional set size of a process in MB; 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def digests(folder: Path) -> dict[str, str]:
    """Return the hashes of a folder's pictures by name."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.jpg")}


def start(command: str, *arguments: object, model: str) -> subprocess.Popen[str]:
    """Start a command of pfr on the CPU."""
    line = [sys.executable, "-m", "pfr_core", command, *map(str, arguments), "--model", model, "--device", "cpu"]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def run(command: str, *arguments: object, model: str) -> subprocess.CompletedProcess[str]:
    """Run a command of pfr to its end; photographs without a face are as good as others here."""
    process = start(command, *arguments, model=model)
    said, _ = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, said)


if __name__ == "__main__":
    main()
