"""``evaluate``: what is written, that it goes on where it was stopped, and what is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pfr_core import PFR, PFRConfig, save_model
from pfr_core.errors import InputError
from trainer.cli import main
from trainer.data.index import list_faces
from trainer.judge import evaluate as evaluating
from trainer.judge import methods
from trainer.judge.methods import INPUT
from trainer.judge.options import EvaluateOptions
from trainer.judge.paper import RECIPES
from trainer.judge.sources import DegradedFaces, PreparedPairs, bicubic4

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUICK = ("--size", "64", "--no-denoiser", "--measures", "psnr", "ssim")


@pytest.fixture(autouse=True)
def one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "DRAWS", 1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every model be one that darkens; return a list that grows with each call, and of which call 99 interrupts."""
    made: list[int] = []

    def restore_with(*_: Any) -> Callable[[Any], Any]:
        def restore(image: Any) -> Any:
            made.append(len(made))
            if len(made) == 99:
                raise KeyboardInterrupt
            return image // 2

        return restore

    monkeypatch.setattr(methods, "restore_with", restore_with)
    return made


def pictures(folder: Path, *names: str, size: int = 64, ending: str = ".png", seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        small = Image.fromarray(rng.integers(60, 200, (8, 8, 3), dtype=np.uint8))
        small.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{name}{ending}")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["evaluate", *map(str, words), *QUICK]) == 1
    return capsys.readouterr().err


def test_results_are_written_and_agree(
    tiny_model: Path, faces: Path, calls: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["evaluate", str(tiny_model), str(faces), *QUICK, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    rows = list(csv.DictReader((out / "results.csv").open()))
    judged = [row for row in rows if row["method"] == "model" and not row["probe"]]
    assert [row["picture"] for row in judged] == ["0-0", "1-0", "2-0"] and len({row["psnr"] for row in judged}) == 3
    mean = np.mean([float(row["psnr"]) for row in judged])
    assert re.search(rf"^\| model \| {mean:.2f} \|", shown, re.MULTILINE)
    found = json.loads((out / "results.json").read_text())
    assert found["methods"]["model"]["psnr"] == pytest.approx(mean) and found["protocol"]["seed"] == 2023
    ahead = next(each for each in found["differences"] if each["measure"] == "psnr")
    assert (ahead["base"], ahead["faces"]) == (INPUT, 3) and ahead["low"] <= ahead["mean"] <= ahead["high"]
    given = {row["face"]: float(row["psnr"]) for row in rows if row["method"] == INPUT and not row["probe"]}
    assert ahead["mean"] == pytest.approx(np.mean([float(row["psnr"]) - given[row["face"]] for row in judged]))
    assert {row["probe"] for row in rows if row["method"] == "model"} == {"", "undegraded", "noise", "JPEG", "shrunk"}
    assert all(float(row["moved"]) > 5 for row in judged)  # halved again
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 9 and "<svg" in page and "left out" in page
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|https?://""", page)


def test_a_stopped_evaluation_goes_on(tiny_model: Path, faces: Path, calls: list[int], tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command = ["evaluate", str(tiny_model), str(faces), *QUICK, "--out"]
    main([*command, str(whole)])
    needed = len(calls)
    assert needed == 3 * (2 + 4)  # each face, its result again, and the probes
    calls[:] = range(99 - 8)
    assert main([*command, str(stopped)]) == 130
    calls.clear()
    main([*command, str(stopped)])
    assert len(calls) == needed - 6  # the face that it was at is made again
    assert (stopped / "results.csv").read_text() == (whole / "results.csv").read_text()
    calls.clear()
    main([*command, str(stopped)])
    assert not calls


def test_a_folder_holds_one_evaluation(
    tiny_model: Path,
    faces: Path,
    calls: list[int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    main(["evaluate", str(tiny_model), str(faces), *QUICK, "--out", str(out)])
    asked = len(calls)
    assert re.search(
        r"of another evaluation: seed is 2023 there and 5 here.*Choose another --out",
        refused(capsys, tiny_model, faces, "--out", out, "--seed", 5),
    )
    save_model(PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), tiny_model, provenance={}, licence="another")
    assert re.search(
        r"model.0-0.json: is of another evaluation: version is '\w{64}' there", refused(capsys, tiny_model, faces, "--out", out)
    )
    with monkeypatch.context() as older:
        older.setattr("pfr_core.__version__", "0.0.1")
        assert "is of another evaluation: PFR is" in refused(capsys, tiny_model, faces, "--out", out)
    assert len(calls) == asked
    (out / "cache" / INPUT / "0-0.json").write_text("{")
    assert "is damaged" in refused(capsys, tiny_model, faces, "--out", out)


def test_results_made_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, truths = pictures(tmp_path / "given", "a", "b", seed=1), pictures(tmp_path / "truths", "a", "b", ending=".bmp")
    pairs = ("--pairs", given, truths, "--results")
    main(["evaluate", *map(str, pairs), f"theirs={truths}", f"same={given}", *QUICK])
    table = capsys.readouterr().out
    assert "2 pairs of 2 faces, 64 px" in table and re.search(r"\| theirs \| 60.00 \| 1.0000 \|", table)
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in table.splitlines() if line.startswith("|")}
    assert rows["same"] == rows[INPUT]

    few = pictures(tmp_path / "few", "a")
    assert "The set has 2 pictures, " in (said := refused(capsys, *pairs, f"few={few}")) and "has no b" in said
    other = pictures(tmp_path / "other", "a", "b", "c")
    assert "The set has no c" in refused(capsys, *pairs, f"other={other}")
    main(["evaluate", *map(str, pairs), f"other={other}", "--limit", "1", *QUICK])  # a part of the set
    small = pictures(tmp_path / "small", "a", "b", size=32)
    assert "a.png is 32x32 px and the set's picture 64x64. Both must have one size" in refused(capsys, *pairs, f"small={small}")
    (tmp_path / "empty").mkdir()
    assert "empty: holds no pictures" in refused(capsys, *pairs, f"none={tmp_path / 'empty'}")
    assert "write NAME=FOLDER" in refused(capsys, *pairs, truths)
    assert "Two methods have one name" in refused(capsys, *pairs, f"x={truths}", f"x={given}")


def test_names_in_other_letters_may_be_long(tmp_path: Path) -> None:
    """Each of them is three bytes, and each byte three when it is quoted."""
    names = ["漢" * 70 + end for end in "一二"]
    given, truths, out = pictures(tmp_path / "given", *names, seed=1), pictures(tmp_path / "truths", *names), tmp_path / "out"
    command = ["evaluate", "--pairs", str(given), str(truths), "--results", f"same={given}", *QUICK, "--out", str(out)]
    for _ in range(2):  # the second time from the records
        assert main(command) == 0
    rows = [row for row in csv.DictReader((out / "results.csv").open(encoding="utf-8")) if row["method"] == "same"]
    assert [row["picture"] for row in rows] == names and rows[0]["psnr"] != rows[1]["psnr"]


def test_pairs_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = pictures(tmp_path / "one", "a", "b"), pictures(tmp_path / "two", "a", "c")
    result = ("--results", f"x={one}")
    said = refused(capsys, "--pairs", one, two, *result)
    assert "The names do not match" in said and "two has no b" in said and "one has no c" in said
    large = pictures(tmp_path / "large", "a", "b", size=96)
    assert "a.png is 64x64 px and" in refused(capsys, "--pairs", one, large, *result)
    shutil.copy(one / "a.png", one / "a.bmp")
    assert "a is there twice" in refused(capsys, "--pairs", one, two, *result)
    assert "nowhere: no such folder" in refused(capsys, "--pairs", one / "nowhere", two, *result)
    assert "name two folders" in refused(capsys, "--pairs", one, *result)
    assert "There is nothing to evaluate" in refused(capsys, one)


def test_photographs_without_truths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, one = pictures(tmp_path / "given", "a", "b", "c"), pictures(tmp_path / "one", "a")
    command = (given, "--unpaired", "--results", f"same={given}")
    main(["evaluate", *map(str, command), *QUICK])
    assert "3 photographs, 64 px" in capsys.readouterr().out
    fid = ("--measures", "fid")
    for words, says in (
        ((*command,), "needs real faces to compare with: --reference"),
        ((*command, "--reference", one), "one has only 1 face"),
        ((*command, "--reference", given, "--limit", 1), "the set has only 1 face"),
    ):
        assert main(["evaluate", *map(str, words), *QUICK, *fid]) == 1
        assert says in capsys.readouterr().err
    wide = tmp_path / "wide"
    pictures(wide, "a")
    Image.new("RGB", (80, 64)).save(wide / "b.png")
    said = refused(capsys, wide, "--unpaired", "--results", f"same={wide}")
    assert "b.png: 80x64 px is not square" in said and "--align" in said
    square = pictures(tmp_path / "square", "a", "b")
    reference = [given, "--unpaired", "--results", f"same={given}", *QUICK, "--measures", "kid", "--reference", wide]
    for words_of in (  # commands that have no use for that option
        ["--pairs", wide, wide, "--results", f"same={wide}", *QUICK],
        ["--pairs", square, square, "--results", f"x={wide}", *QUICK],
        reference,
    ):
        assert main(["evaluate", *map(str, words_of)]) == 1
        said = capsys.readouterr().err
        assert "b.png: 80x64 px is not square" in said and "Replace it" in said and "--align" not in said
    assert "b.png: no face was found" in refused(
        capsys, pictures(wide / "deep", "b"), "--unpaired", "--align", "--results", f"same={wide / 'deep'}"
    )


def test_fid_counts_different_faces_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluating, "DRAWS", 3)
    one, real = pictures(tmp_path / "one", "a"), str(pictures(tmp_path / "real", "a", "b", "c"))
    for reference in (list[str](), ["--reference", real]):
        words = ["default", str(one), *QUICK, "--measures", "fid", *reference]
        assert main(["evaluate", *words]) == 1
        assert "the set has only 1 face. Add more" in capsys.readouterr().err
    judge: Any = SimpleNamespace(by={"fid": ""}, missing={})
    options = EvaluateOptions(reference=real, measures=("fid",))
    for count, told in ((1000, "real has 3 different faces"), (2, "the set has 2 different faces")):
        source = DegradedFaces(list_faces(str(one), "val") * count, draws=3)
        sets = evaluating.compared(source, options)
        assert sets == {"the set": count, real: 3}
        (note,) = evaluating.notes_on([], {}, sets, judge)
        assert told in note and "FID is biased upwards" in note
    enough = evaluating.FID_FACES
    assert not evaluating.notes_on([], {}, {"the set": enough, real: enough}, judge)


def test_a_model_that_gives_no_numbers_is_named(tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, path = PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), tmp_path / "broken.safetensors"
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    save_model(net, path, provenance={}, licence="none")
    said = refused(capsys, path, faces)
    assert "model, picture 0-0: The model gives NaN" in said


def test_the_losses_of_every_leg_of_a_training_are_known(tmp_path: Path) -> None:
    """Of the run that wrote the model, of what that started from, and of the faithful half of a blend."""
    legs = [{"l1_weight": 1.0}, {"fp_weight": 2.0}, {"energy_weight": 3.0}]
    told = {
        "config": legs[0],
        "started_from": {"config": legs[1], "started_from": "by hand"},
        "blend": {"share": 1.0, "faithful": {"config": legs[2]}},
    }
    path = tmp_path / "legs.safetensors"
    save_model(PFR(PFRConfig(size=16, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance=told, licence="none")
    (method,) = methods.models([str(path)], (), ablate=False, device=torch.device("cpu"))
    assert list(method.trainings) == legs


def test_a_picture_that_cannot_be_measured_is_named(tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NIQE of a flat picture, and its weights."""
    Image.new("RGB", (200, 200), "gray").save(tmp_path / "flat.png")
    command = (tmp_path, "--unpaired", "--results", f"x={tmp_path}", *QUICK, "--size", 200, "--measures", "niqe")
    assert main(["evaluate", *map(str, command)]) == 1
    assert "degraded input, picture flat: NIQE: the image is flat" in capsys.readouterr().err


IDLE: list[dict[str, Any]] = [
    {"min_native": 100, "unpaired": True},
    {"min_native": 100, "pairs": ("a", "b")},
    {"seed": 5, "unpaired": True},
    {"grid_rows": 4},
    {"lpips": "vgg16"},
    {"download": True},
    {"reference": "faces", "measures": ("psnr",)},
    {"perceptual": "vgg19", "measures": ("psnr",)},
    {"identity": "arcface", "measures": ("psnr",)},
    {"min_native": 100, "table": 3},
    {"seed": 5, "table": 6},
    {"out": "folder", "table": 6},
]


@pytest.mark.parametrize("wrong", IDLE)
def test_options_that_would_do_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"--{next(iter(wrong)).replace('_', '-')} has no effect with"):
        EvaluateOptions(**wrong)


def test_a_table_brings_the_measures_of_its_options() -> None:
    assert EvaluateOptions(table=1, lpips="vgg16", download=True, out="folder", grid_rows=4).table == 1


def test_the_seed_reaches_the_probes_of_prepared_pairs(tmp_path: Path) -> None:
    folders = pictures(tmp_path / "given", "a", "b"), pictures(tmp_path / "truths", "a", "b")
    sets = [evaluating.prepared(EvaluateOptions(pairs=tuple(map(str, folders)), size=64, seed=seed)) for seed in (5, 5, 6)]
    noisy, again, other = (next(case.given for case in each.cases(probes=True) if case.probe == "noise") for each in sets)
    assert np.array_equal(noisy, again) and not np.array_equal(noisy, other)


@pytest.mark.parametrize("wrong", [{"measures": ("beauty",)}, {"size": 32}, {"align": True}, {"pairs": ("a",)}])
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        EvaluateOptions(**wrong)


def test_bicubic_downscaling_does_not_alias() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(bicubic4(stripes, ())[8:-8, 8:-8].astype(int) - 127).max() < 12


def test_the_figures_of_the_paper_are_whole() -> None:
    for recipe in RECIPES.values():
        rows, columns = recipe.rows(), len(recipe.sets) * len(recipe.measures)
        assert len(rows) in (6, 11, 12) and {len(figures) for figures in rows.values()} == {columns}
        assert all(figure in "∞−" or float(figure) >= 0 for figures in rows.values() for figure in figures)
    assert RECIPES[1].rows()["Our"] == ["26.034", "0.702", "0.162", "16.080", "4.285"] == RECIPES[5].rows()["All (Our)"]


@pytest.mark.usefixtures("calls")
def test_a_table_of_the_paper_has_ours_beside_it(
    tiny_model: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--size", "64", "--limit", "2", "--measures", "psnr", "ssim")
    for number, row, first in ((1, "| model | *Our* |", "26.034"), (2, "| degraded input | *Bicubic* |", "23.757")):
        out = tmp_path / str(number)
        assert main(["evaluate", str(tiny_model), str(faces), "--table", str(number), "--out", str(out), *small]) == 0
        lines = capsys.readouterr().out.splitlines()
        (line,) = (each for each in lines if each.startswith(row))
        ours, theirs = line.split("|")[3:5]
        assert theirs.strip() == f"*{first}*" and 5 < float(ours) <= 60
        assert any("must not share a column" in each for each in lines)
        assert 'class="paper">' in (page := (out / "report.html").read_text()) and first in page
    six = [str(tmp_path / f"{letter}.safetensors") for letter in "abcdef"]
    for path in six:
        shutil.copy(tiny_model, path)
    assert main(["evaluate", *six, str(faces), "--table", "5", *small]) == 0
    assert f"| {six[-1]} | *All (Our)* |" in capsys.readouterr().out


@pytest.mark.usefixtures("calls")
def test_photographs_of_the_paper_have_a_column_each(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LFW", "WebFace"):
        pictures(tmp_path / name, "a", "b", size=250)
    shutil.copytree(EXAMPLES, tmp_path / "FDDB", ignore=lambda _, names: {*names} - {"astronaut.jpg"})
    assert main(["evaluate", str(tiny_model), str(tmp_path), "--table", "3", "--size", "192", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert (
        "| *Panini* | " in shown.replace("|  | *Panini*", "| *Panini*")
        and "WebFace: 1 photographs, 192 px" in shown
        and "| WebFace: NIQE ↓ | paper |" in shown
    )


@pytest.mark.slow
def test_running_time_is_that_of_bench(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny_model), str(EXAMPLES / "astronaut.jpg"), "--table", "6"]) == 0
    shown = capsys.readouterr().out
    assert "| *0.109* |" in shown and "of matmul" in shown
    assert main(["evaluate", str(EXAMPLES / "astronaut.jpg"), "--table", "6"]) == 1
    assert "name models and, last, the data" in capsys.readouterr().err


def test_degraded_faces_are_written_for_other_programs(
    tiny_model: Path, faces: Path, calls: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(tiny_model), str(faces), *QUICK, "--write-pairs", str(tmp_path)])
    before = capsys.readouterr().out.splitlines()
    main(["evaluate", str(tiny_model), "--pairs", str(tmp_path / "degraded"), str(tmp_path / "truths"), *QUICK])
    after = capsys.readouterr().out.splitlines()
    assert after[0].startswith("| 3 pairs of 3 faces, 64 px |") and before[1:4] == after[1:4]


def test_draws_of_one_face_are_one_face_for_other_programs_too(faces: Path, tmp_path: Path) -> None:
    """Intervals and KID would take them for independent faces."""
    here = DegradedFaces(list_faces(faces, "val", min_native=64)[:2], draws=3, size=64)
    evaluating.write_pairs(here, tmp_path)
    there = PreparedPairs(tmp_path / "degraded", tmp_path / "truths", size=64)
    assert there.names == here.names and there.count == here.count == 2
    for probes in (False, True):
        draws, pairs = ([case.face for case in each.cases(probes)] for each in (here, there))
        assert [draws.index(face) for face in draws] == [pairs.index(face) for face in pairs]
