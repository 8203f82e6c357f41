"""``PhotoSession``: every stage is done once, and again only when an option that changes it does; ``restore_file``; notices."""

from __future__ import annotations

import gc
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pfr_core import PFR, Face, FaceRestorer, PFRConfig, RestoreOptions
from pfr_core import compose as composing
from pfr_core import session as sessions
from pfr_core import work as stages
from pfr_core.errors import Cancelled, ImageError, InputError, PFRError
from pfr_core.faces.align import TEMPLATE
from pfr_core.options import Changes
from pfr_core.photo.read import read_photo

from .nobody import unprivileged

SIZE = 64
Array = npt.NDArray[Any]


class Inverting(PFR):
    """Restores every crop to its negative, and counts the faces it is given."""

    def __init__(self) -> None:
        super().__init__(PFRConfig(size=SIZE, narrow=1 / 32, style_dim=8, n_mlp=1))
        self.faces = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.faces += len(x)
        return -x


def face_at(x: float, y: float, side: float = 50) -> Face:
    """Return a face whose crop has its middle at (x, y) and is ``side`` px wide."""
    points = ((TEMPLATE + 0.5) / 512 - 0.5) * side + (x, y)
    half = 0.3 * side
    box = (x - half, y - half, x + half, y + half)
    return Face(box, 0.9, tuple((float(a), float(b)) for a, b in points))  # type: ignore[arg-type]


FACES = [face_at(40, 45), face_at(100, 50, 60), face_at(165, 40)]


class Counts:
    """A restorer whose detector sees ``FACES``, and how often each stage is run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.net = Inverting()
        self.restorer = FaceRestorer(self.net, device="cpu", options=RestoreOptions(color_match="none"))
        self.detected = self.cut = self.enlarged = self.read = 0

        def detect(*_: Any, **__: Any) -> list[Face]:
            self.detected += 1
            return FACES

        monkeypatch.setattr(self.restorer.detector, "detect", detect)
        self.count(monkeypatch, stages, "cut_face", "cut")
        self.count(monkeypatch, sessions, "read_photo", "read")
        self.count(monkeypatch, composing, "resize", "enlarged")

    def count(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, what: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            setattr(self, what, getattr(self, what) + 1)
            return real(*arguments, **keywords)

        monkeypatch.setattr(module, name, counted)

    @property
    def stages(self) -> tuple[int, int, int, int]:
        """Files read, photographs looked through, faces cut out, faces restored."""
        return self.read, self.detected, self.cut, self.net.faces


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (11, 26, 3), dtype=np.uint8)
    with Image.fromarray(noise).resize((208, 88), Image.Resampling.BICUBIC) as image:
        exif = image.getexif()
        exif[0x0132] = "1999:01:02 03:04:05"
        image.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    return tmp_path / "photo.jpg"


LOOKS: list[Any] = [
    {"strength": 0.3},
    {"strength": 0.3, "mask": "oval"},
    {"mask": "oval", "feather": 0.3},
    {"color_match": "wavelet"},
    {"scale": 1.5, "strength": 0.8},
]


def test_sliders_cost_one_reading_one_detection_one_crop_and_one_run_of_the_network(counts: Counts, path: Path) -> None:
    """And give what a restoration with these options gives, bit for bit."""
    session = counts.restorer.open(path)
    session.restore()
    assert counts.stages == (1, 1, 3, 3)
    composed = [session.compose(**look) for look in LOOKS]
    assert counts.stages == (1, 1, 3, 3)
    for look, result in zip(LOOKS, composed, strict=True):
        again = counts.restorer.restore(path, **look)
        assert np.array_equal(result.image, again.image) and np.array_equal(result.mask, again.mask), look
        assert result.changed and result.faces == again.faces == FACES
        assert np.array_equal(result.crops_after, again.crops_after)


def test_only_the_last_stage_is_done_again(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    session.restore(scale=2)
    assert counts.enlarged == 1
    for strength in (0.2, 0.4, 0.6):
        session.compose(scale=2, strength=strength)
    assert counts.enlarged == 1, "the enlarged photograph is kept"
    session.compose(scale=3)
    assert counts.enlarged == 2


def test_another_choice_runs_the_network_for_the_new_faces_only(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    session.restore(select="index", indices=(1,))
    assert counts.stages == (1, 1, 1, 1)
    assert session.compose().faces == FACES[1:2], "the others are not restored yet, and composing restores none"
    assert session.restore(select="index", indices=(0, 1)).faces == FACES[:2]
    assert counts.stages == (1, 1, 2, 2)
    assert session.restore(faces=FACES).faces == FACES and session.restore(select="largest").faces == FACES[1:2]
    assert session.restore(min_face_size=36).faces == FACES[1:2] and session.find(count=2).numbers == [0, 1]
    assert counts.stages == (1, 1, 3, 3)
    session.restore(threshold=0.5)
    assert counts.stages == (1, 2, 3, 3), "another threshold may find other faces"


def test_what_a_session_gave_is_not_written_to(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    pixels = session.pixels.copy()
    first = session.restore()
    image, mask = first.image.copy(), first.mask.copy()
    session.compose(strength=0.5, mask="oval")
    assert np.array_equal(first.image, image) and np.array_equal(first.mask, mask) and np.array_equal(session.pixels, pixels)


def test_a_session_gives_its_memory_back_and_goes_on(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    before = session.restore(scale=2)
    pixels = weakref.ref(session.pixels)
    session.release()
    assert pixels() is None
    assert np.array_equal(session.compose(scale=2).image, before.image)
    assert counts.stages == (2, 1, 3, 3), "read again, and nothing else"


def test_a_photo_that_was_read_beyond_the_limit_is_read_again(
    counts: Counts, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_PIXELS", 1000)
    monkeypatch.setitem(read_photo.__kwdefaults__, "max_pixels", 1000)  # type: ignore[arg-type]
    session = counts.restorer.open(read_photo(path, max_pixels=10**6))
    session.release()
    assert session.pixels.shape == (88, 208, 3)


def test_a_file_that_became_another_picture_is_refused(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    session.restore()
    session.release()
    Image.new("RGB", (20, 30)).save(path)
    with pytest.raises(ImageError, match=r"photo\.jpg: another picture"):
        session.compose()


def test_crops_that_were_put_aside_come_back_to_the_bit(counts: Counts, path: Path, tmp_path: Path) -> None:
    session = counts.restorer.open(path)
    expected = session.restore(strength=0.5)
    in_memory = session.nbytes
    session.put_aside(tmp_path / "crops.npz")
    assert session.nbytes < in_memory / 10
    again = session.compose(strength=0.5)
    assert np.array_equal(again.image, expected.image) and np.array_equal(again.crops_after, expected.crops_after)
    assert counts.net.faces == len(FACES), "the network ran again"
    session.put_aside(tmp_path / "crops.npz")
    session.put_aside(tmp_path / "crops.npz")
    assert np.array_equal(session.restore(strength=0.5).image, expected.image)
    assert counts.net.faces == len(FACES)


def test_what_faces_are_pasted_into_is_counted_and_given_back(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    session.restore()
    crops, photo = session.nbytes - session.pixels.nbytes, session.pixels.nbytes
    session.compose(scale=2)
    assert session.nbytes == crops + photo + 4 * photo + len(FACES) * SIZE * SIZE * 3 * 4, "enlarged, and cut out of that"
    session.release()
    assert session.nbytes == crops


def test_a_session_is_freed_as_soon_as_nobody_has_it(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    session.restore()
    pixels = weakref.ref(session.pixels)
    gc.disable()  # it would come in time, which may be long
    try:
        del session
        assert pixels() is None
    finally:
        gc.enable()


def test_crops_that_cannot_be_put_aside_or_come_back_are_named(counts: Counts, path: Path, tmp_path: Path) -> None:
    """Whatever the file is called, and nothing is lost where it cannot be written."""
    session = counts.restorer.open(path)
    expected = session.restore().image
    with pytest.raises(PFRError, match="cannot be written"):
        session.put_aside(path / "crops")
    session.put_aside(tmp_path / "crops")
    assert np.array_equal(session.compose().image, expected)
    session.put_aside(tmp_path / "crops")
    (tmp_path / "crops").unlink()
    for _ in range(2):
        with pytest.raises(PFRError, match=r"crops put aside there.* open the photograph anew"):
            session.compose()


def test_a_stop_is_heard_between_two_faces(counts: Counts, path: Path) -> None:
    session = counts.restorer.open(path)
    session.restore()
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3  # after finding and before the photograph, then between its faces

    with pytest.raises(Cancelled):
        session.restore(strength=0.5, should_stop=should_stop)


def test_every_kind_of_image_can_be_opened(counts: Counts, path: Path) -> None:
    with Image.open(path) as image:
        picture = image.convert("RGB")
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    expected = counts.restorer.open(array).restore().image
    assert np.array_equal(np.array(counts.restorer.open(picture).restore().image), expected)
    assert np.array_equal(counts.restorer.open(read_photo(path)).restore().image, counts.restorer.restore(path).image)
    result = counts.restorer.open(tensor).restore()
    assert isinstance(result.image, torch.Tensor) and isinstance(result.mask, torch.Tensor)
    assert (result.image.permute(1, 2, 0) * 255 - torch.from_numpy(expected)).abs().max() < 0.51
    with pytest.raises(InputError, match="batch of 2"):
        counts.restorer.open(torch.stack([tensor, tensor]))


def test_an_aligned_face_is_composed_as_a_whole(counts: Counts) -> None:
    image = np.random.default_rng(0).random((SIZE, SIZE, 3), dtype=np.float32)
    session = counts.restorer.open(image, aligned=True)
    assert not session.compose().changed, "nothing is restored yet"
    assert session.restore().image == pytest.approx(1 - image, abs=1e-5)
    assert session.compose(strength=0.5).image == pytest.approx(np.full_like(image, 0.5), abs=1e-5)
    assert counts.net.faces == 1
    with pytest.raises(InputError, match="aligned"):
        session.compose(mask="oval")


def test_options_of_one_call_stand_in_for_the_restorer_s_own(counts: Counts, path: Path) -> None:
    options = RestoreOptions(strength=0, select="largest")
    result = counts.restorer.restore(path, options=options)
    assert not result.changed and result.faces == FACES[1:2] and counts.net.faces == 0
    assert counts.restorer.restore(path, options=options, strength=1).changed


@pytest.mark.parametrize("faces", [3, "ab", FACES[0], [FACES[0], {"box": 1}]])
def test_what_are_no_faces_is_refused(counts: Counts, path: Path, faces: Any) -> None:
    session = counts.restorer.open(path)
    for work in (session.restore, session.compose):
        with pytest.raises(InputError, match="pass a list of Face"):
            work(faces=faces)
    with pytest.raises(InputError, match="pass a list of Face"):
        counts.restorer.open(path, faces=faces)


def test_faces_may_come_one_by_one_and_have_no_place_in_an_aligned_face(counts: Counts, path: Path) -> None:
    one_by_one: Any = (face for face in FACES)
    assert counts.restorer.restore(path, faces=one_by_one).faces == FACES
    aligned = counts.restorer.open(np.zeros((SIZE, SIZE, 3), np.uint8), aligned=True)
    for work in (aligned.restore, aligned.compose):
        with pytest.raises(InputError, match="no effect when the image is aligned"):
            work(faces=FACES)


def test_the_keywords_are_the_options() -> None:
    """For type checkers they are written a second time."""
    assert get_type_hints(Changes) == get_type_hints(RestoreOptions)


# --- files -------------------------------------------------------------------------------------------------------------------


def test_a_file_keeps_its_metadata_and_says_what_made_it(counts: Counts, path: Path, tmp_path: Path) -> None:
    file = counts.restorer.restore_file(path, tmp_path / "new.jpg", strength=0.8)
    assert file.path == tmp_path / "new.jpg" and file.changed and file.restored.faces == FACES
    with Image.open(file.path) as image:
        assert image.getexif()[0x0132] == "1999:01:02 03:04:05"
    assert counts.restorer.provenance.sha256.encode() in (read_photo(file.path).xmp or b"")
    plain = counts.restorer.restore_file(path, tmp_path / "plain.png", provenance=False)
    assert read_photo(plain.path).xmp is None
    assert np.array_equal(read_photo(plain.path).pixels, plain.restored.image)


def test_a_file_in_which_nothing_changed_is_copied(counts: Counts, path: Path, tmp_path: Path) -> None:
    file = counts.restorer.restore_file(path, tmp_path, strength=0)
    assert file.path == tmp_path / "photo_restored.jpg" and not file.changed
    assert file.path.read_bytes() == path.read_bytes()


def test_numbers_that_no_face_has_are_no_success(counts: Counts, path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no face 7 among the 3 found"):
        counts.restorer.restore_file(path, tmp_path / "new.jpg", select="index", indices=(7,))
    assert not (tmp_path / "new.jpg").exists()
    file = counts.restorer.restore_file(path, tmp_path / "new.jpg", select="index", indices=(1, 7))
    assert file.restored.faces == FACES[1:2] and [notice.kind for notice in file.notices] == ["missing_face"]


def test_files_that_cannot_be_read_or_written_are_named(counts: Counts, path: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg: there is no such file"):
        counts.restorer.restore_file(tmp_path / "gone.jpg", tmp_path / "new.jpg")
    with pytest.raises(ImageError, match=r"new\.xyz: the ending"):
        counts.restorer.restore_file(path, tmp_path / "new.xyz")
    with pytest.raises(InputError, match="picture in memory"):
        session = counts.restorer.open(np.zeros((90, 210, 3), np.uint8))
        session.save(session.restore(), tmp_path / "new.png")
    assert [each.name for each in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_target_that_cannot_be_is_refused_before_the_work(counts: Counts, path: Path, tmp_path: Path) -> None:
    """Also where nothing would change, so that it does not depend on the photograph."""
    original = path.read_bytes()
    (tmp_path / "link.jpg").symlink_to(path)
    for target in (path, tmp_path / "link.jpg"):
        with pytest.raises(ImageError, match=r"photo\.jpg: input and output are the same file"):
            counts.restorer.restore_file(path, target)
    with pytest.raises(InputError, match="quality"):
        counts.restorer.restore_file(path, tmp_path / "new.jpg", quality=0, strength=0)
    with pytest.raises(ImageError, match="the ending"):
        counts.restorer.restore_file(path, tmp_path / "new.xyz")
    assert counts.stages[1:] == (0, 0, 0) and path.read_bytes() == original


def test_a_target_in_a_folder_without_access_is_named(counts: Counts, path: Path, tmp_path: Path) -> None:
    session = counts.restorer.open(path)
    restored = session.restore()
    session.save(restored, tmp_path)  # whatever is imported for that may not be readable to others
    with tempfile.TemporaryDirectory() as name:  # pytest's own is closed to others
        closed = Path(name) / "closed"
        closed.mkdir(0)
        closed.parent.chmod(0o755)
        with unprivileged(), pytest.raises(ImageError, match=r"new\.jpg: cannot be written .*may write to"):
            session.save(restored, closed / "new.jpg")
        closed.chmod(0o755)


# --- notices -----------------------------------------------------------------------------------------------------------------


def test_notices_of_all_stages_come_in_order(counts: Counts, tmp_path: Path) -> None:
    Image.new("CMYK", (208, 88)).save(tmp_path / "print.jpg", comment=b"from the attic")
    options: Any = {"select": "index", "indices": (1, 7), "scale": 3}
    file = counts.restorer.restore_file(tmp_path / "print.jpg", tmp_path / "new.png", **options)
    assert [notice.kind for notice in file.restored.notices] == ["cmyk", "missing_face", "magnified"]
    assert [notice.kind for notice in file.notices] == ["cmyk", "missing_face", "magnified", "not_kept"]
    _, missing, magnified, _ = file.notices
    assert missing.numbers == {"missing": 1, "found": 3} and missing.face is None
    assert magnified.face == 0 and magnified.numbers["times"] == pytest.approx(3 * 60 / SIZE)
    assert all(notice.text in str(notice.to_dict()) for notice in file.notices)


def test_notices_of_a_batch_name_their_frame(counts: Counts) -> None:
    batch = torch.rand(2, 3, 88, 208)
    result = counts.restorer.restore(batch, scale=3, select="largest")
    assert [(notice.frame, notice.face) for notice in result.notices] == [(0, 0), (1, 0)]


def test_where_nothing_was_found_a_notice_says_what_may_help(monkeypatch: pytest.MonkeyPatch, counts: Counts) -> None:
    assert counts.restorer.restore(np.zeros((64, 300, 3), np.uint8), min_face_size=9000).notices == (), "there are some"
    monkeypatch.setattr(counts.restorer.detector, "detect", lambda *_, **__: [])
    image = np.zeros((64, 300, 3), np.uint8)
    (notice,) = counts.restorer.restore(image, detection_size=64).notices
    assert notice.kind == "no_face" and notice.numbers == {"detection_size": 64, "picture_px": 300}
    for size, larger in ((128, True), (320, False)):  # a photograph is never enlarged to look for faces
        (notice,) = counts.restorer.restore(image, detection_size=size).notices
        assert notice.kind == "no_face" and not notice.numbers and "lower threshold" in notice.text
        assert ("larger detection_size" in notice.text) == larger
    (notice,) = counts.restorer.restore(image, detection_size=320, select="index", indices=(0,)).notices
    assert notice.kind == "missing_face", "it says that there is none"


def test_a_photo_with_other_pixels_is_not_its_file_any_more(counts: Counts, path: Path, tmp_path: Path) -> None:
    edited = replace(photo := read_photo(path), pixels=255 - photo.pixels)
    assert photo.untouched and not edited.untouched
    target = tmp_path / f"b{path.suffix}"
    done = counts.restorer.restore_file(edited, target, strength=0.0)
    assert not done.changed
    assert np.abs(read_photo(target).pixels.astype(int) - edited.pixels).mean() < 3, "the file of before would be far off"
    session = counts.restorer.open(edited)
    session.release()
    assert np.array_equal(session.pixels, edited.pixels)


def test_a_face_of_lists_is_the_same_face() -> None:
    face = FACES[0]
    listed = Face(list(face.box), face.score, [list(point) for point in face.points])  # type: ignore[arg-type]
    assert listed == face and hash(listed) == hash(face)


def test_the_path_of_a_background_is_named_as_such(counts: Counts, path: Path) -> None:
    with pytest.raises(InputError, match=r"background is 'big\.png'"):
        counts.restorer.restore(read_photo(path).pixels, background="big.png")  # type: ignore[call-overload]
