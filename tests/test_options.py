"""Options: what a spec says, what is refused, what makes what useless, and that every renderer draws all of it."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest

from pfr_core import FaceRestorer, RestoreOptions
from pfr_core.errors import InputError
from pfr_core.options import CHOOSE, FIND, NETWORK, PASTE, ClipOptions, Setup, clip_options, without_effect
from pfr_core.support.arguments import add_options, chosen
from pfr_core.support.schema import Spec, check_fields, names, option, specs


@dataclass(frozen=True)
class Every:
    """One option of each kind."""

    flag: bool = option(True, "switches 100 % of it")
    whole: int = option(3, "how many", 0, 10, group="numbers", step=1)
    share: float = option(0.5, "how much", 0, 1, group="numbers", label="Part")
    free: float = option(0.0, "any number", group="numbers")
    text: str = option("", "what to say")
    choice: Literal["one", "two"] = option("one", "which")
    limit: int | None = option(None, "at most", 1, 9)
    numbers: tuple[float, ...] = option((0.5, 1.0), "several", 0, 2)
    words: tuple[str, ...] = option((), "several texts")

    def __post_init__(self) -> None:
        check_fields(self)


def test_a_spec_says_what_the_type_and_the_field_say() -> None:
    found = specs(Every)
    assert list(found) == [item.name for item in fields(Every)]
    assert found["whole"] == Spec("whole", "integer", 3, "how many", "numbers", "Whole", low=0, high=10, step=1)
    assert found["choice"] == Spec("choice", "choice", "one", "which", label="Choice", choices=("one", "two"))
    assert found["limit"] == Spec("limit", "integer", None, "at most", label="Limit", optional=True, low=1, high=9)
    assert found["numbers"].many and found["numbers"].kind == "number" and found["words"].kind == "text"
    assert found["share"].label == "Part"
    assert names(Every, "numbers") == ("whole", "share", "free")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("flag", "yes", "true or false"),
        ("whole", 1.5, "a whole number from 0 to 10"),
        ("whole", 11, "a whole number from 0 to 10"),
        ("whole", None, "a whole number from 0 to 10"),
        ("share", "0.5", "a number from 0 to 1"),
        ("share", float("nan"), "a number from 0 to 1"),
        ("free", "much", "a number"),
        ("text", 3, "a text"),
        ("choice", "three", "choose from one, two"),
        ("limit", 0, "a whole number from 1 to 9"),
        ("numbers", 0.5, "a list"),
        ("numbers", (0.5, 3), "a number from 0 to 2"),
        ("words", ("a", 1), "a text"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object, words: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} is .*{words}"):
        Every(**{name: value})  # type: ignore[arg-type]


def test_the_limits_themselves_are_taken() -> None:
    Every(whole=0, share=1, free=-1e9, limit=None, numbers=(0, 2))
    Every(whole=10, share=0.0, limit=9, words=("a",))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_options(made, Every)
    return made


def test_only_what_was_typed_is_in_the_namespace() -> None:
    """Also where it is the default."""
    assert chosen(parser().parse_args([]), Every) == {}
    texts = ["--text", "hello", "--choice", "two", "--words", "a", "b"]
    numbers = ["--whole", "3", "--share", "0.25", "--limit", "2", "--numbers", "1", "2"]
    assert chosen(parser().parse_args(["--no-flag", *texts, *numbers]), Every) == {
        "flag": False, "whole": 3, "share": 0.25, "text": "hello", "choice": "two", "limit": 2,
        "numbers": (1.0, 2.0), "words": ("a", "b"),
    }  # fmt: skip


def test_the_help_has_limits_and_defaults() -> None:
    text = " ".join(parser().format_help().split())
    for part in (
        "switches 100 % of it (default: True)",
        "how many, 0 to 10 (default: 3)",
        "any number (default: 0.0)",
        "several, 0 to 2 (default: 0.5 1.0)",
    ):
        assert part in text
    assert "SUPPRESS" not in text and "None" not in text


def test_every_restore_option_is_in_one_of_the_groups() -> None:
    assert sorted(names(RestoreOptions, FIND, CHOOSE, NETWORK, PASTE)) == sorted(item.name for item in fields(RestoreOptions))


def test_a_setup_is_what_a_restorer_is_made_with() -> None:
    parameters = inspect.signature(FaceRestorer).parameters
    assert set(parameters) == {*specs(Setup), "options", "parser", "provenance"}
    assert all(parameters[name].default == spec.default for name, spec in specs(Setup).items())


def test_what_is_useless_beside_what() -> None:
    given = ["threshold", "indices", "mask", "strength", "detector", "device"]
    assert without_effect(given) == []
    assert without_effect(given, faces=True) == ["detector", "indices", "threshold"]
    assert without_effect(given, aligned=True) == ["detector", "indices", "mask", "threshold"]
    sizes = ["max_face_size", "min_face_size", "only_bad_faces", "order"]
    assert without_effect(sizes, clip=True) == ["only_bad_faces"], "each face is judged halfway"
    assert without_effect([*sizes, "indices"], clip=True) == sizes, "numbers are those of the faces that were followed"
    assert without_effect(["restore_every", "steady"], steady=0) == ["restore_every"]
    assert without_effect(["restore_every", "steady"], steady=0.5) == []


def test_a_slider_that_has_no_effect_is_left_out_and_named() -> None:
    sliders = {"steady": 0.0, "detect_every": 7, "restore_every": 9}
    assert clip_options(sliders) == (ClipOptions(steady=0.0, detect_every=7), ["restore_every"])
    assert clip_options({**sliders, "steady": 0.5}) == (ClipOptions(steady=0.5, detect_every=7, restore_every=9), [])
    assert clip_options({"steady": 0.0, "restore_every": 3}) == (ClipOptions(steady=0.0), []), "as it was"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"strength": "0.5"}, "strength"),
        ({"strength": -0.1}, "strength"),
        ({"strength": None}, "strength"),
        ({"detection_size": 640.5}, "detection_size"),
        ({"detection_size": 10}, "detection_size"),
        ({"min_face_size": -1}, "min_face_size"),
        ({"min_face_size": 50, "max_face_size": 20}, "max_face_size"),
        ({"select": "some"}, "select"),
        ({"order": "up"}, "order"),
        ({"indices": (1,)}, "indices"),
        ({"select": "index"}, "indices"),
        ({"select": "index", "indices": (-1,)}, "indices"),
        ({"select": "index", "indices": ("one",)}, "indices"),
        ({"select": "index", "indices": 1}, "indices"),
        ({"select": "center", "count": 1}, "count"),
        ({"select": "largest", "count": 2}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": 0}, "count"),
        ({"sideways": "no"}, "sideways"),
        ({"mask": "circle"}, "mask"),
        ({"feather": 0.6}, "feather"),
        ({"color_match": "histogram"}, "color_match"),
        ({"scale": 0.5}, "scale"),
        ({"scale": 5}, "scale"),
    ],
)
def test_restore_options_refuse_by_name(options: Any, name: str) -> None:
    with pytest.raises(InputError, match=name):
        RestoreOptions(**options)


def test_restore_options_take_their_limits() -> None:
    RestoreOptions(threshold=0, strength=1, detection_size=64, max_face_size=None, min_face_size=7, feather=0.5, scale=4)
    RestoreOptions(min_face_size=20, max_face_size=20, select="index", indices=(0, 3))
