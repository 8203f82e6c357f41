"""What the photo tab's stage does by itself: in a browser, with Gradio and the server played by a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from web.photo import ASSETS, STAGE_WORDS

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PHOTO = Path(__file__).resolve().parents[2] / "examples" / "two_faces.jpg"
GRADIO = """
    window.said = [];
    window.props = { value: {}, words: { en: WORDS }, examples: [{ file: "x.jpg", result: "y.jpg", label: "example_two" }] };
    let changed;
    window.show = (value) => { props.value = value; changed(); };
    const watch = (name, act) => (changed = act);
    const trigger = (name, data) => said.push([name, data]);
    const upload = () => new Promise(() => {});  // it takes for ever
    const element = document.querySelector("#stage");
"""
RESTORED = {
    "before": "before", "after": "after", "width": 400, "height": 200,
    "faces": [{"box": [0.25, 0.3, 0.25, 0.5], "included": True}],
}  # fmt: skip
FACE = "[data-face='0']"


@pytest.fixture
def stage(browser: Any) -> Iterator[Any]:
    """Yield a page with the stage, for mouse and fingers."""
    page = browser.new_context(has_touch=True, viewport={"width": 1280, "height": 900}).new_page()
    errors = list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    script = GRADIO.replace("WORDS", json.dumps({name: name for name in STAGE_WORDS})) + (ASSETS / "stage.js").read_text("utf-8")
    looks = (ASSETS / "page.css").read_text("utf-8")
    page.set_content(
        f"<!doctype html><style>{looks}</style><body class='gradio-container'><div id='stage'><div class='stage'></div></div>"
        f"<script>(() => {{{script}}})();</script>"
    )
    yield page
    page.context.close()
    assert errors == []


def clicked(stage: Any) -> int:
    """Return how many clicks on faces Gradio was told of."""
    return int(stage.evaluate("said.filter(([name]) => name === 'select').length"))


def is_included(stage: Any) -> bool:
    return bool(stage.get_attribute(FACE, "aria-pressed") == "true")


def test_an_example_takes_the_place_of_a_photo_that_is_still_being_sent(stage: Any) -> None:
    stage.set_input_files("#stage .chooser", PHOTO)
    stage.locator("#stage .busy").wait_for()
    stage.click(".example")
    assert stage.evaluate("said") == [["upload", {"path": "x.jpg"}]] and not stage.locator("#stage .busy").count()


@pytest.mark.parametrize("pointer", ["mouse", "finger"])
def test_the_border_moves_over_a_face_that_only_a_click_leaves_out(stage: Any, pointer: str) -> None:
    stage.evaluate("show", RESTORED)
    face, picture = stage.locator(FACE).bounding_box(), stage.locator(".picture").bounding_box()
    x, y = face["x"] + face["width"] / 2, face["y"] + face["height"] / 2
    move, tap = (by_mouse, stage.mouse.click) if pointer == "mouse" else (by_finger, stage.touchscreen.tap)
    move(stage, [(x + way, y) for way in range(0, 31, 5)])
    border = f"{100 * (x + 30 - picture['x']) / picture['width']:.1f}"
    stage.wait_for_function(f"() => document.querySelector('.line').style.left === '{border}%'")
    assert is_included(stage) and not clicked(stage)
    stage.focus(FACE)
    stage.keyboard.press("Enter")
    assert not is_included(stage) and clicked(stage) == 1, "no pointer, no way"
    tap(x, y)
    stage.locator(f"{FACE}[aria-pressed=true]").wait_for()
    assert clicked(stage) == 2


def by_mouse(page: Any, way: Sequence[tuple[float, float]]) -> None:
    page.mouse.move(*way[0])
    page.mouse.down()
    for point in way[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def by_finger(page: Any, way: Sequence[tuple[float, float]]) -> None:
    device = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    touch("touchStart", way[0])
    for point in way[1:]:
        touch("touchMove", point)
    touch("touchEnd")


def test_a_click_that_came_to_nothing_is_taken_back(stage: Any) -> None:
    stage.evaluate("show", RESTORED)
    stage.click(FACE)
    assert not is_included(stage), "shown at once"
    stage.evaluate("document.querySelector('#stage .stage').dispatchEvent(new Event('refused'))")
    assert is_included(stage)
