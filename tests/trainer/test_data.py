"""Training sets: indexes, shards, samples, and ``prepare`` from photographs."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import re
import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core.degradation import Degradation, DegradationParameters
from pfr_core.errors import InputError
from pfr_core.faces.align import template
from trainer.cli import main
from trainer.data.dataset import FaceDataset, read_face
from trainer.data.detector.photographs import aligned_faces, index_points, read_picture
from trainer.data.index import CSV_POINTS, FaceFile, list_faces
from trainer.data.loader import ForWorkers, batches
from trainer.data.options import PrepareOptions
from trainer.data.pack import pack
from trainer.data.prepare import prepare, sharpness
from trainer.data.shards import Stored
from trainer.run.config import PriorConfig


@pytest.fixture
def faces(faces: Path, tmp_path: Path) -> Path:
    """Return a copy of its own for each test, which may spoil it."""
    return Path(shutil.copytree(faces, tmp_path / "faces"))


def dataset(files: list[FaceFile], size: int = 16, seed: int = 0, real_share: float = 0.5, degrade: bool = True) -> FaceDataset:
    return FaceDataset(files, size, seed=seed, real_share=real_share, degrade=degrade)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_sample_depends_only_on_seed_and_counter(faces: Path) -> None:
    files = list_faces(faces, "train")
    first, again, other = (dataset(files, seed=seed)[5] for seed in (1, 1, 2))
    assert same(first, again) and not same(first, other)
    assert first["truth"].shape == first["degraded"].shape == (3, 16, 16) and first["truth"].dtype == torch.uint8
    assert "degraded" not in dataset(files, degrade=False)[5]


def test_real_share_is_kept(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    face = list_faces(faces, "train")[0]
    files = [dataclasses.replace(face, stored=Stored(str(i)), kind="real" if i == 0 else "synthetic") for i in range(2)]
    seen: list[str] = []

    def remember(stored: Stored) -> np.ndarray:
        seen.append(stored.place)
        return np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr("trainer.data.dataset.read_face", remember)
    data = dataset(files, real_share=0.75, degrade=False)
    for i in range(400):
        data[i]
    assert 0.68 < seen.count("0") / len(seen) < 0.82


@pytest.mark.slow
def test_which_face_is_taken_says_nothing_of_how_it_is_degraded(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once both drew from one stream: real faces never met motion blur, and each face had one angle for ever."""
    face = list_faces(faces, "train")[0]
    files = [dataclasses.replace(face, stored=Stored(str(i)), kind="real" if i < 20 else "synthetic") for i in range(40)]
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 255
    chosen: list[int] = []
    drawn: list[DegradationParameters] = []

    def read(stored: Stored) -> np.ndarray:
        chosen.append(int(stored.place))
        return image

    def degrade(truth: np.ndarray, seed: tuple[int, ...]) -> tuple[np.ndarray, DegradationParameters]:
        drawn.append(Degradation().draw(seed))
        return 255 - truth, drawn[-1]

    monkeypatch.setattr("trainer.data.dataset.read_face", read)
    data = FaceDataset(files, 16, seed=7, real_share=0.5, degrade=True)
    monkeypatch.setattr(data, "degradation", degrade)
    samples = [data[i] for i in range(3000)]
    number = np.array(chosen)
    choices = {"real": number < 20, "index": number % 20, "flip": [sample["truth"][0, 0, 0] == 0 for sample in samples]}
    degradations = {
        "motion": [p.blur == "motion" for p in drawn],
        "isotropic": [p.blur == "isotropic" for p in drawn],
        "sigma": [p.sigma[0] if p.blur != "motion" else 5.0 for p in drawn],
        **{name: [getattr(p, name) for p in drawn] for name in ("angle", "scale", "noise", "quality")},
    }
    for choice, a in choices.items():
        for what, b in degradations.items():
            # 0.018 is one standard deviation for independent numbers
            assert abs(np.corrcoef(np.asarray(a, float), np.asarray(b, float))[0, 1]) < 0.08, (choice, what)
    angles = {face: np.std([p.angle for p, n in zip(drawn, chosen, strict=True) if n == face]) for face in range(40)}
    assert min(angles.values()) > 0.5  # uniform in [0, pi): 0.9

    clean = FaceDataset(files, 16, seed=7, real_share=0.5, degrade=True, clean_share=0.125)
    monkeypatch.setattr(clean, "degradation", degrade)
    kept = [torch.equal(sample["truth"], sample["degraded"]) for sample in map(clean.__getitem__, range(3000))]
    assert 0.1 < np.mean(kept) < 0.15
    assert all(abs(np.corrcoef(np.asarray(a, float), kept)[0, 1]) < 0.08 for a in choices.values())

    mixed = FaceDataset(files, 16, seed=7, real_share=0.5, degrade=True, clean_share=0.125, mild_share=0.25)
    monkeypatch.setattr(mixed, "degradation", degrade)
    monkeypatch.setattr("trainer.data.dataset.MILD", [SimpleNamespace(draw=lambda seed, by=by: by) for by in (2, 4)])
    monkeypatch.setattr("trainer.data.dataset.degrade", lambda truth, by, enlarging: truth // by)
    samples = list(map(mixed.__getitem__, range(3000)))
    half, quarter = ([torch.equal(sample["truth"] // by, sample["degraded"]) for sample in samples] for by in (2, 4))
    assert 0.105 < np.mean(half) < 0.145 and 0.105 < np.mean(quarter) < 0.145
    mild = np.add(half, quarter)
    assert [torch.equal(sample["truth"], sample["degraded"]) for sample in samples] == kept
    assert all(abs(np.corrcoef(np.asarray(a, float), mild)[0, 1]) < 0.08 for a in choices.values())


def test_a_flip_moves_landmarks_boxes_and_mask_along(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    points = template(64)
    for (x, y), colour in zip(points.round().astype(int), range(50, 255, 40), strict=False):
        image[y, x] = colour
    Image.fromarray(image).save(tmp_path / "a.png")
    corners = [[-0.5, -0.5], [40.0, -0.5], [40.0, 63.5], [-0.5, 63.5]]  # the photograph ends right of x = 40
    row = {"file": "a.png", "size": 64, "native_px": 512, "points": points.tolist(), "photo": corners, "out_of_photo": 0.4}
    (tmp_path / "index.jsonl").write_text(json.dumps(row) + "\n")
    data = dataset(list_faces(tmp_path, "train", min_native=1), size=64, degrade=False)
    straight, flipped = (
        next(s for s in map(data.__getitem__, range(50)) if bool(s["mask"][0, 0, 0]) is left) for left in (True, False)
    )
    assert torch.equal(straight["truth"], flipped["truth"].flip(2)) and torch.equal(straight["mask"], flipped["mask"].flip(2))
    assert straight["mask"][0, 10].tolist() == [1] * 41 + [0] * 23
    for sample in (straight, flipped):
        assert sample["points"][0, 0] < sample["points"][1, 0] and sample["boxes"][0, 0] < sample["boxes"][1, 0]
        eyes = (sample["boxes"][:2, :2] + sample["boxes"][:2, 2:]) / 2 - 0.5
        assert torch.allclose(eyes, sample["points"][:2], atol=1e-3)
    assert torch.allclose(flipped["points"][0, 0], 63 - straight["points"][1, 0])


def test_the_index_leaves_out_small_magnified_and_cut_faces(tmp_path: Path) -> None:
    points = ",le_x,le_y,re_x,re_y,nose_x,nose_y,lm_x,lm_y,rm_x,rm_y"
    where = "," + ",".join(str(value) for value in template(512).ravel())
    rows = [
        "train,a.png,512,real,900,0,x",
        "train,b.png,256,real,900,0,x",
        "train,c.png,512,synthetic,300,0,x",
        "val,d.png,512,real,900,0,x",
        "train,e.png,512,real,900,0.3,x",
    ]
    head = "split,file,size,kind,native_px,out_of_photo,licence"
    (tmp_path / "index.csv").write_text("\n".join([head + points, *(row + where for row in rows)]))
    found = list_faces(tmp_path, "train", max_out_of_photo=0.1)
    assert [face.stored.place for face in found] == [f"{tmp_path}/train/a.png"]
    assert np.allclose(found[0].points, template(512)) and found[0].licence == "x"
    assert len(list_faces(tmp_path, "train", min_native=256, max_out_of_photo=0.1)) == 3
    with pytest.raises(InputError, match=r"of at least 2000 .* 5 listed, 1 of which are of val\. Lower --min-native"):
        list_faces(tmp_path, "val", min_native=2000)
    with pytest.raises(InputError, match=r"0 of which are of test\. Make a training set"):
        list_faces(tmp_path, "test")


def test_a_face_whose_outside_is_known_is_taken_where_that_is_masked(tmp_path: Path) -> None:
    row = {"file": "a.png", "size": 64, "native_px": 512, "photo": [[0, 0], [40, 0], [40, 63], [0, 63]], "out_of_photo": 0.4}
    (tmp_path / "index.jsonl").write_text(json.dumps(row) + "\n")
    assert len(list_faces(tmp_path, "train", min_native=1, max_out_of_photo=0.1)) == 1
    with pytest.raises(InputError, match="no train faces"):
        list_faces(tmp_path, "train", min_native=1, max_out_of_photo=0.1, masked=False)


def test_indices_as_other_programs_write_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "index.csv").write_text("split,file,size,native_px\ntrain,a.png,512.0,900.0\ntrain,b.png,,700\n", "utf-8-sig")
    assert [(face.size, face.native) for face in list_faces(tmp_path, "train")] == [(512, 900), (512, 700)]
    (tmp_path / "index.csv").write_bytes("split,file,size,native_px\ntrain,ä.png,512,900\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"index\.csv: its columns are not"):
        list_faces(tmp_path, "train")
    (tmp_path / "index.csv").write_text("split,file,size\ntrain,a.png,512\n")
    (face,) = list_faces(tmp_path, "train")
    assert face.native == 512 and "its index gives 1 of 1 train faces no landmarks (le_x" in caplog.text
    rows = {
        '{"file": "a.png", "native_px": 512, "points": null}': None,
        '{"native_px": 512}': "names no file",
        '{"file": "a.png", "native_px": "many"}': "a.png: native_px is 'many', which is no number",
        '{"file": "a.png", "native_px": 512, "points": [[1, 2]]}': "a.png: it has other than five points",
        '{"file": "a.png", "native_px": 512, "points": [[1, 2], [1]]}': "cannot be read, a.png: ",
        '{"file": "a.png", "native_px": 512, "out_of_photo": "n/a"}': "out_of_photo is 'n/a'",
        "[1]": "is no object",
        "null": "is no object",
    }
    for row, said in rows.items():
        (tmp_path / "index.jsonl").write_text(row + "\n")
        if said is None:
            assert np.allclose(list_faces(tmp_path, "train")[0].points, template(512))
        else:
            with pytest.raises(InputError, match=said):
                list_faces(tmp_path, "train")


def test_a_chunk_that_is_none_is_a_damaged_image(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    data[second] = 0
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image"):
        read_face(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_gray_are_brought_to_eight(tmp_path: Path, name: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / name)
    assert abs(float(read_face(tmp_path / name).mean()) - 127) < 2


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_an_aligned_face_is_turned_as_its_exif_says(tmp_path: Path, ending: str) -> None:
    half = Image.new("RGB", (64, 64))
    half.paste("white", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[274] = 6  # shown turned by a quarter, clockwise
    half.save(tmp_path / f"a.{ending}", exif=exif)
    face = read_face(tmp_path / f"a.{ending}").astype(int)
    assert face[:, 300:].mean() > 250 and face[:, :200].mean() < 5


def test_a_face_whose_exif_is_damaged_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert read_face(tmp_path / "a.jpg").mean() > 250


@pytest.mark.slow
def test_workers_start_whatever_threads_this_process_has(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked worker waited for ever for the threads of OpenCV that only its parent had."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.warpAffine(np.zeros((1024, 1024, 3), np.uint8), np.eye(2, 3), (1024, 1024))
        time.sleep(1)  # until the threads sleep
        loader: Any = batches(dataset(list_faces(faces, "train")), PriorConfig(workers=1, batch=4, iterations=1), 0, 0, 1)
        monkeypatch.setattr(loader, "_timeout", 120)  # a worker that hangs fails the test instead of hanging it
        assert next(loader)["truth"].shape == (4, 3, 16, 16)
    finally:
        cv2.setNumThreads(before)


def test_a_large_set_does_not_hold_up_the_start_of_its_workers(faces: Path) -> None:
    """What does not fit into the pipe is waited for: fifteen workers took three minutes to start, the GPU idle."""
    listed = list_faces(faces, "train")
    data = dataset([dataclasses.replace(face, native=n) for n in range(1000, 2000) for face in listed])
    given = ForkingPickler.dumps(ForWorkers(data))
    assert len(pickle.dumps(data)) > 65536 > 4096 > len(given)
    found = ForkingPickler.loads(given)
    for name, value in data[5].items():
        assert torch.equal(found[5][name], value)


def test_an_unreadable_image_is_named_skipped_and_counted(faces: Path, caplog: pytest.LogCaptureFixture) -> None:
    (faces / "0.png").write_bytes(b"no image")
    samples = [dataset(list_faces(faces, "train"))[i] for i in range(12)]
    assert sum(int(sample["skipped"]) for sample in samples) == caplog.text.count("0.png: cannot be read") > 0
    for path in faces.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="neither this nor"):
        dataset(list_faces(faces, "train"))[0]


@pytest.mark.slow
def test_workers_and_processes_change_no_sample(faces: Path) -> None:
    data = dataset(list_faces(faces, "train"), degrade=False)

    def first(config: PriorConfig, rank: int, world: int, count: int) -> list[int]:
        stream = batches(data, config, 2, rank, world)
        return [n for _ in range(count) for n in next(stream)["counter"].tolist()]

    one = PriorConfig(iterations=4, batch=4, accumulate=2, stddev_group=0, workers=0)
    two = PriorConfig(iterations=4, batch=2, accumulate=2, stddev_group=0, workers=1)
    assert first(one, 0, 1, 4) == list(range(16, 32))
    assert sorted(first(two, 0, 2, 4) + first(two, 1, 2, 4)) == list(range(16, 32))


class Ranges(SimpleHTTPRequestHandler):
    """Serves files, and ranges of them."""

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None:
            return super().do_GET()
        first, last = int(wanted[1]), int(wanted[2])
        data = Path(self.translate_path(self.path)).read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def photos(shared_dir: Path, folder: Path) -> Path:
    """Return a group photograph, a single one, one without a face, one that is no image."""
    folder.mkdir()
    for name in ("facerec__test_images__obama.jpg", "facerec__test__obama_and_biden.jpg", "faceapi__images__white.png"):
        shutil.copy(shared_dir / "data" / "wild" / "whole" / name, folder / name)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


OPTIONS = PrepareOptions(min_native=100, min_sharpness=1.0, max_out_of_photo=1.0, val_share=0.0, licence="test", workers=1)


@pytest.mark.slow
def test_prepare_makes_a_set_that_training_reads(
    shared_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, served: str
) -> None:
    source, out = photos(shared_dir, tmp_path / "photos"), tmp_path / "set"
    text = prepare(source, out, OPTIONS)
    assert "1 x image unreadable" in text and "1 x image without a face" in text and "broken.jpg" in caplog.text
    rows = [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]
    assert len(rows) >= 2 and {row["licence"] for row in rows} == {"test"}
    for row in rows:
        # the landmarks are those of an aligned face, the boxes lie on them
        assert np.abs(np.array(row["points"]) - template(512)).mean() < 40
        assert np.allclose((np.array(row["boxes"])[0, :2] + np.array(row["boxes"])[0, 2:]) / 2 - 0.5, row["points"][0], atol=0.02)
        assert Image.open(out / row["file"]).size == (512, 512)
    files = list_faces(out, "train", min_native=100)
    assert len(files) == len(rows)

    # Killed in the middle: the last line is half-written, its photograph and the missing one are done again.
    lines = (out / "journal.jsonl").read_text().splitlines(keepends=True)
    (out / "journal.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    (out / "index.jsonl").unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    prepare(source, out, OPTIONS)
    again = [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]
    assert again == rows
    done = {row["file"] for line in lines[:2] for row in json.loads(line)["faces"]}
    assert {str(path.relative_to(out)) for path, time in kept.items() if path.stat().st_mtime_ns == time} == done

    with pytest.raises(InputError, match="other options"):
        prepare(source, out, PrepareOptions(min_native=90, workers=1))

    # The same set as shards, with and without their index, and behind a URL.
    plain = dataset(files, size=32, degrade=False)
    assert main(["pack", str(out), str(tmp_path / "packed"), "--shard-size", "0.05"]) == 0
    assert len(list((tmp_path / "packed").glob("*.tar"))) > 1 and not list((tmp_path / "packed").rglob("*.webp"))
    by_url = list_faces(f"{served}/packed", "train", min_native=100)
    by_index = list_faces(tmp_path / "packed", "train", min_native=100)
    (tmp_path / "packed" / "index.jsonl").unlink()
    by_scan = list_faces(tmp_path / "packed", "train", min_native=100)
    for i in range(4):
        first, *others = (dataset(found, size=32, degrade=False)[i] for found in (by_url, by_index, by_scan))
        assert all(same(first, other) for other in others)
        assert (first["truth"].int() - plain[i]["truth"].int()).abs().float().mean() < 2  # compressed again
        assert torch.allclose(first["points"], plain[i]["points"], atol=0.01) and torch.equal(first["mask"], plain[i]["mask"])
    with pytest.raises(InputError, match="not empty"):
        pack(str(out), tmp_path / "packed", shard_size=1, size=512, quality=95)


def test_prepare_takes_aligned_sets_as_they_are(shared_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "aligned").mkdir()
    listed = list_faces(shared_dir / "data" / "faces", "val")[:2]
    for face in listed:
        shutil.copy(face.stored.place, tmp_path / "aligned")
    prepare(tmp_path / "aligned", tmp_path / "set", PrepareOptions(aligned=True, workers=1, val_share=0.0))
    found = {Path(face.stored.place).name.rsplit("-", 2)[0]: face for face in list_faces(tmp_path / "set", "train")}
    for face in listed:
        again = found[Path(face.stored.place).stem]
        assert np.abs(again.points - face.points).mean() < 12  # px of 512, by two detectors
        before, after = read_face(face.stored).astype(int), read_face(again.stored).astype(int)
        assert np.abs(before - after).mean() < 3  # the same pixels, compressed again


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names of files are Unicode")
def test_prepare_takes_names_that_are_no_utf_8(shared_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "aligned").mkdir()
    shutil.copy(list_faces(shared_dir / "data" / "faces", "val")[0].stored.place, tmp_path / "aligned" / "\udce4.webp")
    prepare(tmp_path / "aligned", tmp_path / "set", PrepareOptions(aligned=True, workers=1, val_share=0.0))
    (face,) = list_faces(tmp_path / "set", "train")
    assert read_face(face.stored).shape == (512, 512, 3)


def test_prepare_makes_what_has_gone_again_and_takes_long_names(shared_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "aligned").mkdir()
    for listed, name in zip(list_faces(shared_dir / "data" / "faces", "val"), ("a", "漢" * 80), strict=False):
        shutil.copy(listed.stored.place, tmp_path / "aligned" / f"{name}.webp")
    options = PrepareOptions(aligned=True, workers=1, val_share=0.0)
    prepare(tmp_path / "aligned", tmp_path / "set", options)
    index, there = (tmp_path / "set" / "index.jsonl").read_text(), sorted((tmp_path / "set" / "train").iterdir())
    gone, kept = there
    assert gone.name.startswith("a-") and kept.name.startswith("漢漢") and len(kept.name.encode()) <= 255
    before = kept.stat().st_mtime_ns
    gone.unlink()
    prepare(tmp_path / "aligned", tmp_path / "set", options)
    assert gone.is_file() and kept.stat().st_mtime_ns == before
    assert (tmp_path / "set" / "index.jsonl").read_text() == index


def test_prepare_looks_again_at_what_could_not_be_read(
    shared_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy that was still running, or that was made anew as the message asks for."""
    (tmp_path / "aligned").mkdir()
    face, listed = tmp_path / "aligned" / "a.webp", list_faces(shared_dir / "data" / "faces", "val")[0]
    whole = Path(listed.stored.place).read_bytes()
    face.write_bytes(whole[:400])
    options = PrepareOptions(aligned=True, workers=1, val_share=0.0)
    for _ in range(2):
        with pytest.raises(InputError, match="1 x image unreadable"):
            prepare(tmp_path / "aligned", tmp_path / "set", options)
    assert caplog.text.count("a.webp") == 2
    face.write_bytes(whole)
    assert "1 faces kept" in prepare(tmp_path / "aligned", tmp_path / "set", options)


def test_prepare_names_what_is_wrong(shared_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such folder"):
        prepare(tmp_path / "none", tmp_path / "a", OPTIONS)
    with pytest.raises(InputError, match="no images"):
        prepare(tmp_path / "empty", tmp_path / "b", OPTIONS)
    shutil.copy(shared_dir / "data" / "wild" / "whole" / "faceapi__images__white.png", tmp_path / "empty")
    with pytest.raises(InputError, match=r"no usable face[\s\S]*1 x image without a face"):
        prepare(tmp_path / "empty", tmp_path / "c", OPTIONS)
    with pytest.raises(InputError, match="threshold"):
        PrepareOptions(threshold=2.0)


def test_shards_of_others_are_read_and_packing_skips_what_cannot_be(faces: Path, tmp_path: Path) -> None:
    """WebDataset tars of images alone; an unreadable image is named and counted, and no half of a shard stays."""
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "a.tar", "w") as tar:
        for path in sorted(faces.iterdir()):
            tar.add(path, path.name)
    assert [read_face(face.stored).shape for face in list_faces(tmp_path / "tars", "train")] == [(512, 512, 3)] * 3
    (faces / "note.txt").write_text("a caption")
    with tarfile.open(tmp_path / "tars" / "a.tar", "w") as tar:  # as `tar -C FOLDER -c .` does, with a file beside each image
        for path in sorted(faces.glob("*.png")):
            tar.add(path, f"./{path.name}")
            tar.add(faces / "note.txt", f"./{path.stem}.txt")
    (faces / "note.txt").unlink()
    assert [read_face(face.stored).shape for face in list_faces(tmp_path / "tars", "train")] == [(512, 512, 3)] * 3
    (faces / "about.json").write_text(json.dumps({"kind": "real", "offset": 7, "length": 3.5, "file": "x", "shard": "y"}))
    with tarfile.open(tmp_path / "tars" / "a.tar", "w") as tar:  # in which what others say of an image comes after it
        for path in sorted(faces.glob("*.png")):
            tar.add(path, path.name)
            tar.add(faces / "about.json", f"{path.stem}.json")
    (faces / "about.json").unlink()
    found = list_faces(tmp_path / "tars", "train")
    assert [read_face(face.stored).shape for face in found] == [(512, 512, 3)] * 3 and all(face.real for face in found)
    (faces / "0.png").write_bytes(b"no picture")
    Image.new("RGB", (64, 48)).save(faces / "1.png")
    options: dict[str, Any] = {"shard_size": 1.0, "size": 64, "quality": 90}
    assert pack(str(faces), tmp_path / "packed", **options).startswith("1 faces of 64 px (skipped as unreadable: 2)")
    (faces / "2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of its 3 images can be read"):
        pack(str(faces), tmp_path / "nothing", **options)
    assert not list((tmp_path / "nothing").iterdir())


def test_sharpness_falls_with_blur(shared_dir: Path) -> None:
    from pfr_core import Degradation

    face = read_face(list_faces(shared_dir / "data" / "faces", "val")[0].stored)
    blurred = [
        Degradation(blur=("isotropic",), sigma=(s, s), scale=None, noise=None, quality=None)(face, 0)[0] for s in (1.0, 3.0, 8.0)
    ]
    values = [sharpness(image) for image in (face, *blurred)]
    assert values == sorted(values, reverse=True) and values[-1] < PrepareOptions.min_sharpness < values[0]


def test_names_of_files_behind_an_address_may_be_any(faces: Path, tmp_path: Path, served: str) -> None:
    name = "ä 50%.png"
    (faces / "0.png").rename(faces / name)
    (faces / "index.jsonl").write_text(json.dumps({"file": name, "size": 64}) + "\n")
    (face,) = list_faces(f"{served}/faces", "train", min_native=64)
    assert read_face(face.stored).shape == (512, 512, 3)


def test_what_is_no_set_of_plain_pictures_is_named(faces: Path, tmp_path: Path) -> None:
    """Held-out faces would be trained on, with the template's landmarks and no licences."""
    with pytest.raises(InputError, match="--data"):
        list_faces("", "train")
    (faces / "index.jsonl").write_text(json.dumps({"file": "0.png", "size": 64}) + "\n")
    with pytest.raises(InputError, match=f"holds a training set in {faces.name}. Name that folder"):
        list_faces(faces.parent, "train", min_native=64)
    (faces / "index.jsonl").unlink()
    (faces / "journal.jsonl").write_text("")
    with pytest.raises(InputError, match="prepare has not come to its end there"):
        list_faces(faces, "train", min_native=64)


def test_damaged_sets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.shards.TRIES", 1)
    with pytest.raises(InputError, match="no such folder"):
        list_faces(tmp_path / "none", "train")
    with pytest.raises(InputError, match="no train faces"):
        list_faces(tmp_path, "train")
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(InputError, match=r"x\.tar: no readable shard"):
        list_faces(tmp_path, "train")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        entry = tarfile.TarInfo("0.json")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"[]"))
    with pytest.raises(InputError, match=r"x\.tar: no readable shard .*0\.json is no object"):
        list_faces(tmp_path, "train")
    for data in (b"{", b'{"file": "\xe4.png"}'):
        (tmp_path / "index.jsonl").write_bytes(data)
        with pytest.raises(InputError, match="index is damaged"):
            list_faces(tmp_path, "train")
    (tmp_path / "index.jsonl").write_text('{"file": "0.png", "native_px": 1e999}')
    with pytest.raises(InputError, match=r"a row that cannot be read, 0\.png"):
        list_faces(tmp_path, "train")
    with pytest.raises(InputError, match="cannot be fetched"):
        list_faces("http://127.0.0.1:9/faces", "train")


def test_small_pictures_without_an_index_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for side in (64, 128, 512):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / f"{side}.png")
    assert len(list_faces(tmp_path, "train")) == 3
    assert "2 of 3 pictures have fewer than 400 px across" in caplog.text


def test_photographs_are_no_aligned_faces(tmp_path: Path) -> None:
    for name, size in (("a", (64, 48)), ("b", (48, 64)), ("c", (64, 64)), ("d", (64, 64))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    assert len(list_faces(tmp_path, "train", min_native=64)) == 4  # those two are told when they are read
    with pytest.raises(InputError, match=r"a\.png: is not square.* prepare PHOTOS FOLDER"):
        read_face(tmp_path / "a.png")
    (tmp_path / "d.png").unlink()
    with pytest.raises(InputError, match=rf"2 of 3 pictures are not square.* prepare {re.escape(str(tmp_path))} FOLDER"):
        list_faces(tmp_path, "train", min_native=64)


def test_the_detector_s_training_reads_what_prepare_and_pack_write(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gives 3 of 3 train faces no landmarks"):
        aligned_faces(faces)
    (faces / "train").mkdir()
    for path in [*faces.glob("*.png")]:
        path.rename(faces / "train" / path.name)
    points = (template(64) + [[number, 0] for number in range(5)]).tolist()
    rows = [{"file": f"train/{i}.png", "split": "train", "size": 64, "native_px": 64, "points": points} for i in range(3)]
    (faces / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pack(str(faces), tmp_path / "packed", shard_size=1, size=32, quality=90)
    for folder, size in ((faces, 64), (tmp_path / "packed", 32)):
        found = aligned_faces(folder)
        assert len({face.name for face in found}) == 3 and {face.size for face in found} == {size}
        for face in found:
            assert read_picture(face.stored, 16).shape == (16, 16, 3)
            assert np.abs(index_points(face, 64) - points).max() < 0.05
    (faces / "train" / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"0\.png: cannot be read\. Remove it"):
        read_picture(aligned_faces(faces)[0].stored, 16)


def test_an_index_of_spreadsheets_is_read_by_the_detector_s_training_too(tmp_path: Path) -> None:
    names = ["split", "file", "size", "kind", "licence", *CSV_POINTS]
    row = ["train", "a.png", *["1"] * (len(names) - 2)]
    (tmp_path / "index.csv").write_text(f"{','.join(names)}\n{','.join(row)}\n", "utf-8-sig")
    assert [face.name for face in aligned_faces(tmp_path)] == ["train/a.png"]
    (tmp_path / "index.csv").write_text("split,file,size\ntrain,a.png,512\n")
    with pytest.raises(InputError, match=r"1 of 1 train faces no landmarks \(le_x, le_y, \.\.\.\)"):
        aligned_faces(tmp_path)
    damaged = {"its columns are not": "\udce4".join(row), "the row of a.png has fewer columns": ",".join(row[:-1])}
    for said, line in damaged.items():
        (tmp_path / "index.csv").write_text(f"{','.join(names)}\n{line}", "utf-8", "surrogateescape")
        for read in (aligned_faces, partial(list_faces, split="train")):
            with pytest.raises(InputError, match=said):
                read(tmp_path)
