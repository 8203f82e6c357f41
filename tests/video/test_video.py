"""Clips: faces followed, restored texture held still, the clip's own frames, times and sound kept."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch

from pfr_core import PFR, Face, FaceRestorer, PFRConfig, RestoreOptions, save_model
from pfr_core.cli import main
from pfr_core.errors import Cancelled, ImageError, InputError
from pfr_core.faces.align import TEMPLATE
from pfr_core.options import ClipOptions
from pfr_core.support.notice import Notice
from pfr_core.video.steady import Steady
from pfr_core.video.track import Follower, Track, Tracks, find_tracks

av = pytest.importorskip("av")

from pfr_core.video.measure import Flicker, Sight, flicker  # noqa: E402
from pfr_core.video.plot import plot  # noqa: E402
from pfr_core.video.read import Clip  # noqa: E402
from pfr_core.video.restore import restore_clip  # noqa: E402
from pfr_core.video.tracked import TrackRestorer  # noqa: E402
from pfr_core.video.unfinished import Unfinished  # noqa: E402

SIZE = 160, 120
Picture = Any


def scene(seed: int) -> Picture:
    """Return a large picture with something to hold on to everywhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (40, 50, 3), dtype=np.uint8)
    return cv2.resize(coarse, (400, 320), interpolation=cv2.INTER_CUBIC)


def face_at(x: float, y: float, width: float) -> Face:
    """Return a face of this width whose middle is there."""
    points = (TEMPLATE - TEMPLATE.mean(axis=0)) * width / 160 + (x, y)
    box = (x - width / 2, y - width / 2, x + width / 2, y + width / 2)
    return Face(box, 0.99, tuple((float(px), float(py)) for px, py in points))  # type: ignore[arg-type]


class Camera:
    """A camera over a picture with faces in it, and a detector that knows where they are, with a tremble.

    Args:
        picture: what is filmed.
        faces: the faces in it.
        tremble: standard deviation of what the detector says, as a share of the face.
    """

    def __init__(self, picture: Picture, faces: Sequence[Face], tremble: float = 0.0) -> None:
        self.picture, self.faces, self.tremble = picture, faces, tremble
        self.rng = np.random.default_rng(0)
        self.missed: set[int] = set()
        self.looked: list[int] = []
        self.advised: Notice | None = None
        self.frame = -1

    def place(self, frame: int) -> tuple[float, complex]:
        """Return angle and shift of the camera."""
        return 0.05 * math.sin(frame / 8), complex(120 + 12 * math.sin(frame / 6), 100 + 8 * math.cos(frame / 7))

    def film(self, number: int) -> list[Picture]:
        """Return the first frames."""
        return [cv2.warpAffine(self.picture, self.matrix(frame), SIZE, flags=cv2.INTER_CUBIC) for frame in range(number)]

    def matrix(self, frame: int) -> Picture:
        angle, shift = self.place(frame)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return np.hstack([turn, -turn @ np.array([[shift.real], [shift.imag]])])

    def seen(self, face: Face, frame: int) -> Picture:
        """Return where its points are in a frame, [5,2]."""
        matrix = self.matrix(frame)
        return np.asarray(face.points) @ matrix[:, :2].T + matrix[:, 2]

    def watched(self, film: Sequence[Picture]) -> Any:
        """Yield the frames, keeping in mind which one the detector will be asked about."""
        for self.frame, picture in enumerate(film):
            yield picture

    def detect(self, image: Picture, **how: Any) -> list[Face]:
        self.looked.append(self.frame)
        if self.frame in self.missed:
            return []
        found = []
        for face in self.faces:
            points = self.seen(face, self.frame) + self.rng.normal(0, self.tremble * face.size, (5, 2))
            x, y = points.mean(axis=0)
            half = face.size / 2
            found.append(Face((x - half, y - half, x + half, y + half), 0.9, tuple(map(tuple, points.tolist()))))  # type: ignore[arg-type]
        return found

    def advice(self) -> Notice | None:
        return self.advised

    def follow(self, film: Sequence[Picture], every: int = 5) -> Any:
        return find_tracks(self.watched(film), self, RestoreOptions(), every=every)  # type: ignore[arg-type]


def trembling(camera: Camera, face: Face, points: dict[int, Picture]) -> float:
    """Return how far the points go from frame to frame beside the true motion, as a share of the eyes' distance."""
    error = np.array([points[frame] - camera.seen(face, frame) for frame in sorted(points)])
    eyes = np.linalg.norm(np.subtract(face.points[0], face.points[1]))
    return float(np.sqrt(np.square(np.diff(error, axis=0)).sum(axis=2).mean()) / eyes)


# --- Tracks -------------------------------------------------------------------------------------------------------------


def test_a_followed_face_trembles_at_most_a_third_as_much_and_does_not_lag() -> None:
    face = face_at(200, 160, 60)
    camera = Camera(scene(0), [face], tremble=0.02)
    film = camera.film(50)
    (track,) = camera.follow(film).tracks
    assert (track.first, track.last) == (0, 49) and len(camera.looked) == 10
    followed = {frame: np.asarray(track.face(frame).points) for frame in range(50)}
    detected = {}
    for frame in range(50):
        camera.frame = frame
        detected[frame] = np.asarray(camera.detect(film[frame])[0].points)
    assert trembling(camera, face, followed) < trembling(camera, face, detected) / 3
    x = np.array([followed[frame].mean(axis=0)[0] for frame in range(50)])
    true = np.array([camera.seen(face, frame).mean(axis=0)[0] for frame in range(50)])
    lag = min(range(-3, 4), key=lambda shift: np.abs(x[5:-5] - np.roll(true, shift)[5:-5]).mean())
    assert lag == 0


def test_what_the_detector_misses_once_is_filled_in_and_what_it_sees_once_is_no_face() -> None:
    camera = Camera(scene(1), [face_at(180, 150, 60), face_at(250, 160, 50)])
    camera.missed = {10}
    film = camera.film(30)
    tracks = camera.follow(film).tracks
    assert [(track.first, track.last) for track in tracks] == [(0, 29)] * 2
    assert tracks[0].middle.center[0] < tracks[1].middle.center[0], "numbered from left to right"

    once = Camera(scene(1), [face_at(180, 150, 60)])
    once.missed = set(range(30)) - {10}
    assert once.follow(film).tracks == []


def test_a_face_that_appears_between_two_looks_is_followed_back() -> None:
    camera = Camera(scene(2), [face_at(200, 160, 60)])
    camera.missed = {0}
    (track,) = camera.follow(camera.film(20)).tracks
    assert (track.first, track.last) == (0, 19)


def test_a_cut_ends_a_track_and_is_looked_at_at_once() -> None:
    face = face_at(200, 160, 60)
    first, second = Camera(scene(3), [face]), Camera(scene(4), [face])
    found = second.follow([*first.film(7), *second.film(12)[7:]])
    assert found.cuts == [7] and 7 in second.looked
    assert [(track.first, track.last) for track in found.tracks] == [(0, 6), (7, 11)]


def test_noise_and_motion_of_a_gray_film_are_no_cuts_and_a_cut_in_it_is_one() -> None:
    face, rng = face_at(200, 160, 60), np.random.default_rng(0)
    first, second = (Camera(np.repeat(scene(seed).mean(axis=2, keepdims=True), 3, axis=2), [face]) for seed in (6, 23))
    film = [*first.film(12), *(each / 3 for each in second.film(24)[12:])]
    noisy = [np.clip(each + rng.normal(0, 20, each.shape), 0, 255).astype(np.uint8) for each in film]
    assert second.follow(noisy).cuts == [12]


def test_options_choose_among_tracks() -> None:
    camera = Camera(scene(5), [face_at(180, 150, 60), face_at(250, 160, 40)])
    found = camera.follow(camera.film(10))
    for options, numbers, noticed in (
        (RestoreOptions(select="largest"), [0], []),
        (RestoreOptions(select="index", indices=(1, 7), order="size"), [1], ["missing_face"]),
        (RestoreOptions(min_face_size=100), [], []),
    ):
        chosen, notices = found.chosen(options)
        assert [track.number for track in chosen] == numbers and [notice.kind for notice in notices] == noticed


def test_a_clip_without_frames_or_faces_has_no_tracks() -> None:
    camera = Camera(scene(6), [])
    assert camera.follow([]).tracks == camera.follow(camera.film(1)).tracks == []
    camera.advised = Notice("better_detector", "take a better one")
    found = camera.follow(camera.film(1))
    chosen, notices = found.chosen(RestoreOptions())
    assert not chosen and [notice.kind for notice in notices] == ["no_face", "better_detector"]
    _, notices = found.chosen(RestoreOptions(select="index", indices=(0,)))
    assert [notice.kind for notice in notices] == ["better_detector", "missing_face"], "which says that there is none"


def test_numbers_are_the_same_whether_a_clip_comes_whole_or_in_batches() -> None:
    """From left to right, not the best score first, and without gaps where something seen once was no face."""
    left, right, late = face_at(180, 150, 40), face_at(250, 160, 40), face_at(215, 190, 30)
    camera = Camera(scene(7), [])
    film = camera.film(30)

    def detect(image: Picture, **how: Any) -> list[Face]:
        shown = [right, left] if camera.frame else [late, right, left]  # what is seen once, and surest, is no face
        shown += [late] if camera.frame >= 15 else []
        ways = [(camera.seen(face, camera.frame) - face.points).mean(axis=0) for face in shown]
        return [face.moved(1, (float(x), float(y))) for face, (x, y) in zip(shown, ways, strict=True)]

    camera.detect = detect  # type: ignore[method-assign]
    whole = camera.follow(film).tracks
    assert [(track.number, track.first) for track in whole] == [(0, 0), (1, 0), (2, whole[2].first)] and whole[2].first > 9
    assert whole[0].face(0).center < whole[1].face(0).center
    follower, numbers = Follower(camera, RestoreOptions(), 5), list[Any]()  # type: ignore[arg-type]
    for frame in camera.watched(film):
        follower.take(frame)
        if camera.frame in (12, 29):
            numbers.append([(track.number, track.first) for track in follower.found().tracks])
    assert numbers == [[(0, 0), (1, 0)], [(track.number, track.first) for track in whole]]


class Crossing(Camera):
    """Two faces that walk past each other over a picture that stands still; a detector that does not know who is who."""

    def __init__(self) -> None:
        super().__init__(scene(20), [], tremble=0.005)
        self.people = [scene(21)[:40, :40], scene(22)[:40, :40]]

    def middle(self, person: int, frame: int) -> tuple[float, float]:
        """Return where a face is: the second one is nearer, and hides the first when they meet."""
        return (30 + 2.5 * frame, 50.0) if person == 0 else (130 - 2.5 * frame, 62.0)

    def film(self, number: int) -> list[Picture]:
        pictures = []
        for frame in range(number):
            picture = self.picture[:120, :160].copy()
            for person, look in enumerate(self.people):
                x, y = (round(value) for value in self.middle(person, frame))
                part = picture[y - 20 : y + 20, max(0, x - 20) : x + 20]
                part[:] = look[:, max(0, 20 - x) :][:, : part.shape[1]]
            pictures.append(picture)
        return pictures

    def detect(self, image: Picture, **how: Any) -> list[Face]:
        self.looked.append(self.frame)
        places = [self.middle(person, self.frame) for person in range(2)]
        hidden = abs(places[0][0] - places[1][0]) < 20
        faces = [face_at(x + self.rng.normal(0, 0.2), y, 40) for x, y in places]
        return faces[1:] if hidden else faces[:: 1 if self.frame % 2 else -1]


def test_two_faces_that_cross_stay_who_they_are_while_they_are_seen() -> None:
    camera = Crossing()
    tracks = camera.follow(camera.film(40)).tracks
    near = max(tracks, key=lambda track: len(track.rows))
    assert (near.first, near.last) == (0, 39), "the face in front is never lost"
    for track in tracks:
        owners = set()
        for frame in range(track.first, track.last + 1):
            distances = [abs(track.face(frame).center[0] - camera.middle(person, frame)[0]) for person in range(2)]
            if abs(distances[0] - distances[1]) > 10:
                owners.add(int(distances[1] < distances[0]))
        assert len(owners) == 1, f"track {track.number} jumps from one person to the other"


def test_a_face_that_leaves_and_comes_back_is_restored_while_it_is_there() -> None:
    camera = Camera(scene(2), [face_at(200, 160, 60)])
    camera.missed = set(range(15, 30))
    tracks = camera.follow(camera.film(50)).tracks
    assert tracks[0].first == 0 and 10 <= tracks[0].last <= 19 and tracks[-1].last == 49
    assert all(frame in tracks[0] or frame in tracks[-1] for frame in (5, 40)) and 25 not in tracks[0]


# --- Steady -------------------------------------------------------------------------------------------------------------


def crop_of(seed: int) -> Picture:
    return cv2.resize(scene(seed), (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def test_what_stands_still_becomes_steady() -> None:
    rng, crop, steady = np.random.default_rng(0), crop_of(0), Steady(0.7)
    restored = [(crop + rng.normal(0, 0.05, crop.shape)).astype(np.float32) for _ in range(12)]
    mixed = [steady(frame, crop, each) for frame, each in enumerate(restored)]
    assert np.std(mixed[-1] - mixed[-2]) < 0.5 * np.std(restored[-1] - restored[-2])
    assert np.abs(mixed[-1] - crop).mean() < np.abs(restored[-1] - crop).mean()


def test_what_becomes_steady_stays_sharp() -> None:
    rng, crop, steady = np.random.default_rng(0), crop_of(0), Steady(0.75)
    restored = [(crop + rng.normal(0, 0.03, crop.shape)).astype(np.float32) for _ in range(12)]
    mixed = [steady(frame, crop, each) for frame, each in enumerate(restored)]
    before, after = (cv2.Laplacian(each[-1], cv2.CV_32F).var() for each in (restored, mixed))
    assert 0.94 * before < after < 1.05 * before  # 0.917 if nothing were made up for


def test_another_face_leaves_no_ghost_and_a_blink_stays_a_blink() -> None:
    one, other, steady = crop_of(1), crop_of(2), Steady(0.95)
    steady(0, one, one)
    assert np.abs(steady(1, other, other) - other).mean() < 0.1 * np.abs(one - other).mean()
    blink = one.copy()
    blink[20:32, 16:32] = 1 - blink[20:32, 16:32]
    steady(2, one, one)
    mixed = steady(3, blink, blink)
    assert np.abs(mixed - blink)[22:30, 18:30].max() < 0.1 * np.abs(one - blink)[22:30, 18:30].mean()


def test_a_face_that_has_not_changed_is_brought_along_and_one_that_has_is_to_be_restored() -> None:
    large = cv2.resize(scene(5), (256, 256), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    true = [large[16 + 2 * i : 208 + 2 * i, 32:224] for i in range(5)]  # it moves
    rng = np.random.default_rng(0)
    noisy = [(each + rng.normal(0, 0.02, each.shape)).astype(np.float32) for each in true]
    steady, middle = Steady(0.75, every=3), np.s_[48:144, 48:144]
    assert steady.unchanged(0, noisy[0]) is None
    steady(0, noisy[0], true[0])
    for frame in (1, 2):
        kept = steady.unchanged(frame, noisy[frame])
        assert kept is not None
        assert np.abs(kept - true[frame])[middle].mean() < 0.3 * np.abs(true[frame] - true[0])[middle].mean()
    assert steady.unchanged(3, noisy[3]) is None  # the third is restored whatever it looks like
    steady(3, noisy[3], true[3])
    blink = noisy[4].copy()
    blink[80:100, 50:90] = 1 - blink[80:100, 50:90]
    assert steady.unchanged(4, blink) is None
    light = noisy[4].copy()
    light[:20, :20] = 1 - light[:20, :20]  # beside the face something comes to light
    beside = Steady(0.75, every=3)
    beside(3, noisy[3], true[3])
    kept = beside.unchanged(4, light)
    assert kept is not None and np.abs(kept - light)[:12, :12].mean() < 0.1 * np.abs(true[4] - light)[:12, :12].mean()
    each = Steady(0.0, every=3)
    each(0, noisy[0], true[0])
    assert each.unchanged(1, noisy[1]) is None


def test_the_network_rests_where_nothing_changes(restorer: FaceRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def restore_crops(self: FaceRestorer, crops: Picture, **_: object) -> Picture:
        asked.append(len(crops))
        return crops

    monkeypatch.setattr(FaceRestorer, "restore_crops", restore_crops)
    rows = np.array([[*(face := face_at(80, 60, 40)).box, 0.99, *np.ravel(face.points)]] * 7, np.float32)
    track, still = Track(0, 0, rows, np.zeros((8, 8, 3), np.uint8)), scene(11)[:120, :160]
    for every, times in ((1, 7), (3, 3)):
        asked.clear()
        work = TrackRestorer(restorer, [track], RestoreOptions(), ClipOptions(restore_every=every))
        for number in range(7):
            work.restore(number, still)
        assert sum(asked) == times
    other = 255 - scene(12)[:120, :160]
    asked.clear()
    work = TrackRestorer(restorer, [track], RestoreOptions(), ClipOptions(restore_every=100))
    for number in range(6):
        work.restore(number, still if number < 3 else other)
    assert sum(asked) == 2  # the first frame, and the first after the cut


def test_a_face_that_has_left_the_picture_or_whose_points_lie_wildly_ends_no_clip(restorer: FaceRestorer) -> None:
    face = face_at(80, 60, 40)
    away, wild = face_at(-80, 60, 40), np.asarray(face.points)[[1, 0, 2, 4, 3]]
    rows = np.array(
        [[*box, 0.99, *np.ravel(points)] for box, points in ((face.box, face.points), (away.box, away.points), (face.box, wild))],
        np.float32,
    )
    work = TrackRestorer(restorer, [Track(0, 0, rows, np.zeros((8, 8, 3), np.uint8))], RestoreOptions(), ClipOptions())
    still = scene(11)[:120, :160]
    first, gone, _ = (work.restore(number, still) for number in range(3))
    assert first.changed and not gone.changed and np.array_equal(gone.image, still)


def test_a_face_that_grew_fast_keeps_a_width_before_it_was_seen() -> None:
    """Followed back from two sightings between which it came from behind something."""
    camera = Camera(scene(8), [face_at(200, 160, 20)])
    film = [scene(8)[:320, :400]] * 30
    widths = {20: 38.0, 25: 66.0}

    def detect(image: Picture, **how: Any) -> list[Face]:
        return [face_at(200, 160, widths[camera.frame])] if camera.frame in widths else []

    camera.detect = detect  # type: ignore[method-assign]
    (track,) = camera.follow(film).tracks
    sizes = [track.face(frame).size for frame in range(track.first, track.last + 1)]
    assert track.first < 20 and min(sizes) > 37.9


def test_a_face_that_comes_or_goes_within_a_scene_fades(restorer: FaceRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaceRestorer, "restore_crops", lambda self, crops, **_: 1 - crops)
    rows = np.array([[*(face := face_at(80, 60, 40)).box, 0.99, *np.ravel(face.points)]] * 9, np.float32)
    track, still = Track(0, 3, rows, np.zeros((8, 8, 3), np.uint8)), np.full((120, 160, 3), 255, np.uint8)
    options, clip = RestoreOptions(color_match="none"), ClipOptions(steady=0.0)
    for scenes, shares in (
        ({0, 20}, [1, 2, 3, 4, 4, 4, 3, 2, 1]),
        ({0, 3, 20}, [4, 4, 4, 4, 4, 4, 3, 2, 1]),
        ({0, 12}, [1, 2, 3, 4, 4, 4, 4, 4, 4]),
        (None, [4] * 9),
    ):
        work = TrackRestorer(restorer, [track], options, clip, scenes=scenes)
        middle = [255 - int(work.restore(frame, still).image[60, 80, 0]) for frame in range(3, 12)]
        assert np.allclose(middle, np.array(shares) / 4 * 255, atol=1)


def test_after_a_gap_and_at_strength_0_each_frame_stands_for_itself() -> None:
    crop, restored = crop_of(3), crop_of(4)
    steady, off = Steady(0.9), Steady(0.0)
    for each in (steady, off):
        each(0, crop, crop)
    assert np.array_equal(steady(2, crop, restored), restored)
    assert np.array_equal(off(1, crop, restored), restored)


def test_masks_of_a_track_hold_still_until_it_is_cut(restorer: FaceRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser's edge trembles on a face that hardly changes; another face in its place gets its own mask at once."""
    edges = [30, 34, 29, 33, 31, 35, 30, 34]

    def pasted(steady: float, film: Sequence[Picture]) -> list[Picture]:
        drawn = iter(edges)

        def mask(crop: Picture, feather: float, should_stop: object = None) -> Picture:
            across = np.arange(len(crop), dtype=np.float32) / len(crop) * 64
            return np.repeat(np.clip((next(drawn) - across) / 8, 0, 1)[None], len(crop), axis=0)

        monkeypatch.setattr(restorer.parser, "mask", mask)
        rows = np.array([[*(face := face_at(80, 60, 40)).box, 0.99, *np.ravel(face.points)]] * len(film), np.float32)
        track = Track(0, 0, rows, np.zeros((8, 8, 3), np.uint8))
        work = TrackRestorer(restorer, [track], RestoreOptions(mask="parse"), ClipOptions(steady=steady))
        return [work.restore(number, frame).mask for number, frame in enumerate(film)]

    one, other = scene(11)[:120, :160], 255 - scene(12)[:120, :160]
    still, alone = (pasted(steady, [one] * 8) for steady in (0.75, 0.0))
    flicker = [float(np.abs(np.diff(masks, axis=0)[2:]).mean()) for masks in (still, alone)]
    assert 0 < flicker[0] < 0.4 * flicker[1]
    assert np.abs(np.mean(still[4:], axis=0) - np.mean(alone[4:], axis=0)).max() < 0.2, "it is the parser's edge that stays"
    cut = pasted(0.75, [one] * 5 + [other] * 3)[5]
    assert np.abs(cut - alone[5]).mean() < 0.2 * np.abs(still[5] - alone[5]).mean()


def test_a_past_that_is_taken_up_goes_on_as_if_nothing_had_been() -> None:
    crop, edge = crop_of(5), np.tri(64, dtype=np.float32)
    whole, second = Steady(0.75), Steady(0.75)
    whole(0, crop, crop)
    whole.mask(edge)
    second.take_up(0, whole.state(0))
    for each in (whole, second):
        each(1, crop, 1 - crop)
    masks = whole.mask(1 - edge), second.mask(1 - edge)
    assert np.array_equal(*masks) and not np.array_equal(masks[0], 1 - edge)
    assert all(map(np.array_equal, whole.state(1), second.state(1)))


def test_work_of_before_an_option_came_is_gone_on_with_by_its_default(tmp_path: Path) -> None:
    unfinished, now = Unfinished(tmp_path / "a.mp4"), {"steady": 0.75, "restore_every": 3, "indices": (1,)}
    with unfinished.held():
        unfinished.begin({"steady": 0.75, "indices": (1,)})
        assert unfinished.take_up(now) is None, "no faces yet"
        with pytest.raises(InputError, match=r"^restore_every: not what the interrupted run had"):
            unfinished.take_up({**now, "restore_every": 4})


def test_what_the_search_noticed_is_said_after_an_interruption_too(tmp_path: Path) -> None:
    unfinished, job = Unfinished(tmp_path / "a.mp4"), {"steady": 0.75}
    found = Tracks([], 4, [2], (64, 48), (Notice("no_face", "no face found", numbers={"picture_px": 64}),))
    with unfinished.held():
        unfinished.begin(job)
        unfinished.keep_tracks(found)
        assert unfinished.take_up(job) == found


@pytest.mark.parametrize("left", [b"", b"\0" * 40, b"\xff", b'{"steady": 0.'])
def test_a_job_that_the_power_failed_in_is_begun_again(left: bytes, tmp_path: Path) -> None:
    unfinished, job = Unfinished(tmp_path / "a.mp4"), {"steady": 0.75}
    with unfinished.held():
        (unfinished.folder / "job.json").write_bytes(left)
        (unfinished.folder / "tracks.npz").touch()
        assert unfinished.take_up(job) is None
        unfinished.begin(job)
        assert unfinished.take_up(job) is None and not unfinished.followed()
        with pytest.raises(InputError, match="steady"):
            unfinished.take_up({"steady": 0.5})


def test_a_job_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished, settled = Unfinished(tmp_path / "a.mp4"), list[bytes]()

    def fsync(handle: int) -> None:
        assert not (unfinished.folder / "job.json").exists()
        settled.append(os.pread(handle, 1000, 0))

    monkeypatch.setattr(os, "fsync", fsync)
    with unfinished.held():
        unfinished.begin({"steady": 0.75})
        assert settled == [(unfinished.folder / "job.json").read_bytes()]


# --- Clips --------------------------------------------------------------------------------------------------------------


def write_clip(path: Path, film: Sequence[Picture]) -> Path:
    """Write an almost lossless clip, its frames at uneven times."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.height, stream.width = film[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 50)
        for number, picture in enumerate(film):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = 2 * number + number % 2, Fraction(1, 50)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def times(path: Path) -> list[float]:
    with av.open(str(path)) as file:
        return [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]


def test_a_shot_that_occurs_twice_is_chosen_twice() -> None:
    row = np.concatenate([[40, 24, 56, 40, 0.9], (TEMPLATE / 16 + 30).ravel()]).astype(np.float32)
    twice = [Track(number, first, np.stack([row] * 5), np.zeros((8, 8, 3), np.uint8)) for number, first in ((0, 0), (1, 10))]
    chosen, _ = Tracks(twice, 15, [5, 10], (96, 64)).chosen(RestoreOptions())
    assert [track.number for track in chosen] == [0, 1]


@pytest.mark.parametrize("ending", ["ts", "mp4"])
def test_a_part_begins_where_it_was_asked_to(ending: str, tmp_path: Path) -> None:
    """Without an index a seek lands at any packet, and what can be decoded from there may begin much later."""
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"g": "50", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(150):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), number + 50, np.uint8), format="rgb24")))
        file.mux(stream.encode())
    for first in (10, 49, 50, 74, 98, 149):
        seen = [round(float(shot.pixels.mean())) - 50 for shot in Clip(path, start=first / 25).shots()]
        assert len(seen) == 150 - first and abs(seen[0] - first) <= 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network with random weights: it changes every face."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(PFR(PFRConfig(size=32, narrow=1 / 32, style_dim=16, n_mlp=2)), path, provenance={}, licence="none")
    return path


@pytest.fixture
def restorer(model: Path) -> FaceRestorer:
    return FaceRestorer(model, device="cpu")


def test_a_clip_keeps_frames_and_times_and_changes_at_its_faces_only(
    restorer: FaceRestorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = face_at(200, 160, 24)
    camera = Camera(scene(7), [face])
    source = write_clip(tmp_path / "a.mov", camera.film(12))
    monkeypatch.setattr("pfr_core.video.restore.Clip.frames", lambda clip: camera.watched([each.pixels for each in clip.shots()]))
    monkeypatch.setattr(restorer.detector, "detect", camera.detect)
    steps: list[tuple[str, int, int]] = []
    clip = restore_clip(restorer, source, tmp_path / "b.mp4", progress=lambda *step: steps.append(step[:3]))
    assert clip.changed and clip.frames == 12 and times(clip.path) == times(source)
    assert steps == [(stage, done, 12) for stage in ("find", "restore") for done in range(1, 13)]
    before, after = ([shot.pixels for shot in Clip(path).shots()] for path in (source, clip.path))
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        difference = np.abs(one.astype(int) - other).mean(axis=2)
        x, y = camera.seen(face, number).mean(axis=0).astype(int)
        assert difference[y - 5 : y + 5, x - 5 : x + 5].mean() > 10
        assert difference[:10].mean() < 6, "the encoder's own loss"


def test_a_face_given_by_a_track_is_restored_as_in_a_photograph(restorer: FaceRestorer) -> None:
    camera = Camera(scene(8), [face_at(200, 160, 60)])
    film = camera.film(3)
    found = camera.follow(film)
    work = TrackRestorer(restorer, found.tracks, RestoreOptions(), ClipOptions(steady=0.0))
    for number, frame in enumerate(film):
        expected = restorer.restore(frame, faces=[found.tracks[0].face(number)])
        assert np.array_equal(work.restore(number, frame).image, expected.image)


def test_what_cannot_be_is_refused_and_leaves_nothing(restorer: FaceRestorer, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", Camera(scene(9), []).film(3))
    content = source.read_bytes()
    with pytest.raises(InputError, match="same file"):
        restore_clip(restorer, source, source)
    with pytest.raises(InputError, match=r"\.mkv"):
        restore_clip(restorer, source, tmp_path / "b.webm")
    with pytest.raises(Cancelled):
        restore_clip(restorer, source, tmp_path / "b.mp4", should_stop=lambda: True)
    (tmp_path / "text.mp4").write_text("no clip")
    with pytest.raises(ImageError, match=r"text\.mp4"):
        restore_clip(restorer, tmp_path / "text.mp4", tmp_path / "b.mp4")
    with pytest.raises(InputError, match="steady is 1"):
        ClipOptions(steady=1.0)
    with pytest.raises(InputError, match="restore_every has no effect with steady 0"):
        ClipOptions(steady=0.0, restore_every=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "text.mp4"] and source.read_bytes() == content


def test_the_command_takes_clips_in_folders_beside_photographs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "a.mov", Camera(scene(10), []).film(3))
    cv2.imwrite(str(tmp_path / "in" / "b.png"), scene(11))
    options = ["--model", str(model), "--device", "cpu"]
    assert main(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *options]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mov", "b.png"]
    assert (tmp_path / "out" / "a.mov").read_bytes() == (tmp_path / "in" / "a.mov").read_bytes(), "no face: a copy"
    pairs = ["--compare", str(tmp_path / "pairs")]
    assert main(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "photos"), *pairs, *options]) == 0
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["b.png"]
    assert "left out, being clips: 1 files" in caplog.text
    for arguments, words in (
        (["in/b.png", "-o", "c.png", "--steady", "0.5"], "--steady has no effect"),
        (["in/a.mov", "-o", "c.mp4", "--aligned"], "is for photographs"),
        (["in/a.mov", "-o", "c.png"], "stays a clip"),
        (["in/a.mov", "-o", "out", "--format=png"], "--format png has no effect: no input is a photograph"),
        (["in/b.png", "-o", "out", "--format=mp4"], "--format mp4 has no effect: no input is a clip"),
    ):
        given = [str(tmp_path / each) if each.endswith(("png", "mp4", "mov")) and each[0] != "-" else each for each in arguments]
        assert main(["restore", *given, *options]) == 2
        assert words in capsys.readouterr().err


# --- Flicker ------------------------------------------------------------------------------------------------------------


def test_flicker_is_nothing_for_a_still_and_grows_with_noise(tmp_path: Path) -> None:
    face = face_at(200, 160, 60)
    camera = Camera(scene(12), [face])
    camera.place = lambda frame: (0.0, 120 + 100j)  # type: ignore[method-assign]
    still = camera.film(1) * 6
    rng = np.random.default_rng(0)
    noisy = [np.clip(frame + rng.normal(0, 12, frame.shape), 0, 255).astype(np.uint8) for frame in still]
    paths = [write_clip(tmp_path / f"{name}.mp4", film) for name, film in {"still": still, "noisy": noisy}.items()]
    camera.frame = 0
    measured = flicker(paths[0], paths[1:], camera, Brightness())  # type: ignore[arg-type]
    one, other = (measured[path].to_dict() for path in paths)
    assert one["warping_error"] < 1 and one["jitter"] < 1e-6 and one["identity"] > 0.9999 and one["faces"] == 5  # type: ignore[operator]
    assert other["warping_error"] == pytest.approx(12 * 2**0.5 * blurring(), rel=0.35)
    assert other["identity"] < one["identity"]  # type: ignore[operator]
    for each in measured.values():
        frames = each.frames()
        assert list(frames) == [1, 2, 3, 4, 5], "the first frame has none before it"
        squares = [figures.warping_error**2 for figures in frames.values()]  # type: ignore[operator]
        assert each.to_dict()["warping_error"] == pytest.approx(np.mean(squares) ** 0.5)
    assert flicker(paths[0], [], camera)[paths[0]].to_dict()["identity"] is None  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 frames"):
        flicker(paths[0], [write_clip(tmp_path / "short.mp4", still[:2])], camera)  # type: ignore[arg-type]
    narrow = write_clip(tmp_path / "narrow.mp4", [frame[:, :120] for frame in still])
    with pytest.raises(InputError, match="other proportions"):
        flicker(paths[0], [narrow], camera)  # type: ignore[arg-type]


def test_a_plot_has_a_line_for_each_clip_that_breaks_where_there_is_no_face() -> None:
    def sights(frames: Sequence[int], identity: float | None) -> Flicker:
        return Flicker([Sight(frame, 4.0 * frame, 0.01, identity, 100.0 + frame) for frame in frames])

    drawing = plot({"a <before>.mp4": sights([3, 4, 5, 8, 9], None), "b.mp4": sights([3, 4, 5, 8, 9], None)})
    root = ElementTree.fromstring(drawing)
    lines = [each for each in root.iter() if each.tag.endswith("polyline")]
    said = [each.text or "" for each in root.iter() if each.tag.endswith("text")]
    assert len(lines) == 3 * 2 * 2, "three figures, two clips, two runs each; identity was not measured"
    assert "a <before>.mp4" in said and not any("identity" in each for each in said) and {"frame 3", "frame 9"} <= {*said}
    first = [tuple(map(float, place.split(","))) for place in lines[0].attrib["points"].split()]
    assert len(first) == 3 and first[0][1] > first[1][1] > first[2][1], "a larger error is drawn higher"
    assert "identity" in plot({"a.mp4": sights([1], 0.9)}), "one frame is a dot"


def test_a_plot_that_is_no_svg_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flicker", str(tmp_path / "none.mp4"), "--plot", "plot.png", "--detector", "builtin", "--device", "cpu"]) != 0
    assert "give it the ending .svg" in capsys.readouterr().err


class Brightness(torch.nn.Module):
    """A network that knows faces by the brightness of each place."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        assert x.shape == (2, 3, 256, 256) and points.shape == (2, 5, 2) and points.min() > 0 and points.max() < 256
        return torch.nn.functional.normalize(self.scale * x.mean(dim=1).flatten(1), dim=1)


def blurring() -> float:
    """Return how much of a pixel's noise is left when a face of 60 px becomes a crop of 256."""
    return 0.8


def test_no_face_is_nothing_to_measure(tmp_path: Path) -> None:
    camera = Camera(scene(13), [])
    with pytest.raises(InputError, match="no face in two frames"):
        flicker(write_clip(tmp_path / "a.mp4", camera.film(3)), [], camera)  # type: ignore[arg-type]
