"""Every kind of image file is read right, and what cannot be read is one clear sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torso.images import image_size, image_to_tensor, read_image, to_images
from torso.inputs.letterbox import Letterbox
from torso.inputs.short_side import ShortSide

RED, GREY = (200, 40, 30), (90, 90, 90)


def at(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return tuple(int(v) for v in np.asarray(image)[y, x])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    """An image stored turned in each of the eight ways comes back upright, and its header says the upright size."""
    upright = Image.new("RGB", (48, 32), GREY)
    upright.paste((250, 250, 250), (0, 0, 16, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that stores it so
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    stored.save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.size == (48, 32)
    assert image_size(path) == (32, 48)
    assert min(at(image, 8, 8)) > 240
    assert max(at(image, 40, 24)) < 100
    assert read_image(Image.open(path)).tobytes() == image.tobytes()


def test_grey_and_bilevel(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    Image.new("1", (4, 4), 1).save(tmp_path / "bilevel.png")
    Image.new("LA", (4, 4), (77, 255)).save(tmp_path / "alpha.png")
    assert at(read_image(tmp_path / "grey.png")) == (77, 77, 77)
    assert at(read_image(tmp_path / "bilevel.png")) == (255, 255, 255)
    assert at(read_image(tmp_path / "alpha.png")) == (77, 77, 77)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(path)
    image = read_image(path)
    assert [at(image, x)[0] for x in range(4)] == [0, 1, 128, 255]
    assert read_image(values).tobytes() == image.tobytes()


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    """Full, half and no cover; the hidden colour of a transparent pixel never shows."""
    pixels = np.array([[[0, 0, 0, 255], [0, 0, 0, 128], [9, 200, 9, 0]]], dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "alpha.png")
    image = read_image(tmp_path / "alpha.png")
    assert [at(image, x)[1] for x in range(3)] == [0, 127, 255]
    assert read_image(pixels).tobytes() == image.tobytes()
    assert read_image(torch.from_numpy(pixels).permute(2, 0, 1)).tobytes() == image.tobytes()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "clear.png", transparency=1)
    palette.save(tmp_path / "clear.gif", transparency=1)
    assert at(read_image(tmp_path / "plain.png"), 1) == (0, 0, 0)
    for name in ("clear.png", "clear.gif"):
        image = read_image(tmp_path / name)
        assert (at(image), at(image, 1)) == (RED, (255, 255, 255))
    keyed = Image.new("RGB", (2, 1), RED)
    keyed.save(tmp_path / "keyed.png", transparency=RED)
    assert at(read_image(tmp_path / "keyed.png")) == (255, 255, 255)


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "ink.tif")
    for name in ("ink.jpg", "ink.tif"):
        red, green, blue = at(read_image(tmp_path / name))
        assert red > 245
        assert max(green, blue) < 10


def test_arrays_and_tensors_agree() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).tobytes()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for source in (
        pixels,
        pixels / 255.0,
        pixels.astype(np.float32) / 255,
        tensor,
        tensor / 255,
        pixels.astype(np.uint16) * 257,
    ):
        assert read_image(source).tobytes() == expected
    assert read_image(pixels[:, ::-1]).size == (7, 5)
    assert read_image(pixels[:, :, 0]).mode == "RGB"
    assert read_image(pixels[:, :, :1]).mode == "RGB"
    assert read_image(tensor[:1]).size == (7, 5)
    assert at(read_image(np.ones((2, 2), dtype=bool))) == (255, 255, 255)
    assert torch.equal(image_to_tensor(read_image(pixels)), tensor)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (np.zeros((3, 5, 7), np.uint8), r"^array: shape \[3, 5, 7\] came, .* was wanted: transpose it$"),
        (
            np.zeros((5, 0, 3), np.uint8),
            r"^array: the image has no pixels \(shape \[5, 0, 3\]\); pass one that has some$",
        ),
        (np.full((2, 2), 3.0), r"^array: floating values 3\.\.3 came, 0\.\.1 was wanted: divide by the largest"),
        (np.full((2, 2), np.nan), r"^array: floating values nan\.\.nan came"),
        (
            np.zeros((2, 2), np.int64),
            "^array: dtype int64 came, uint8, uint16, bool or floating was wanted: convert it$",
        ),
        (torch.zeros(2, 3, 4, 4), r"^tensor: shape \[2, 3, 4, 4\] came, .* permute it, or pass a batch as a list$"),
        (7, "^image: expected a path, PIL image, numpy array or tensor, got 7$"),
    ],
)
def test_wrong_sources(source: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_image(source)  # type: ignore[arg-type]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """One sentence each, with the file's name first."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    whole = buffer.getvalue()
    noise.save(tmp_path / "broken.png")
    broken = bytearray((tmp_path / "broken.png").read_bytes())
    broken[200:260] = bytes(60)
    contents = {
        "cut.jpg": whole[: len(whole) // 2],
        "text.jpg": b"hello",
        "empty.png": b"",
        "broken.png": bytes(broken),
    }
    wanted = {
        "cut.jpg": "the image is truncated or corrupt (image file is truncated",
        "text.jpg": "not an image in any format Pillow reads; replace or remove the file",
        "empty.png": "not an image in any format Pillow reads; replace or remove the file",
        "broken.png": "the image is truncated or corrupt",
        "gone.jpg": "no such file; an image was wanted: check the path or restore the file",
        "folder": "a folder came where one image was wanted: name the files in it",
    }
    (tmp_path / "folder").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, words in wanted.items():
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            read_image(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: {words}")
        assert "\n" not in message
        assert caught.value.__suppress_context__


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"large\.png: the image has more than 2000 pixels; .* cut it into tiles$"):
        read_image(tmp_path / "large.png")


def test_colour_spaces_without_a_way_to_rgb() -> None:
    sentence = r"^PIL image: colour mode La came, RGB was wanted: save it as RGB first$"
    with pytest.raises(ValueError, match=sentence):
        read_image(Image.new("La", (2, 2)))


def test_letterboxed_batch_and_its_way_back() -> None:
    sources = [Image.new("RGB", (200, 100), RED), np.full((60, 30, 3), 90, np.uint8)]
    batch = to_images(sources, Letterbox(size_hw=(128, 128)))
    assert batch.pixels.shape == (2, 3, 128, 128)
    assert batch.pixels.dtype == torch.uint8
    assert batch.size_hw.tolist() == [[64, 128], [128, 64]]
    assert batch.pixels[0, :, :64].float().mean(dim=(1, 2)).tolist() == [200, 40, 30]
    assert not batch.pixels[0, :, 64:].any()
    assert not batch.pixels[1, :, :, 64:].any()
    corners = batch.size_hw.flip(1) * batch.to_original[:, :2] + batch.to_original[:, 2:]
    assert corners.tolist() == [[200, 100], [30, 60]]


def test_short_side_batch() -> None:
    sources = [Image.new("RGB", (200, 100)), Image.new("RGB", (100, 300))]
    batch = to_images(sources, ShortSide(short=50, longest=120), multiple=32)
    assert batch.size_hw.tolist() == [[50, 100], [120, 40]]
    assert batch.pixels.shape == (2, 3, 128, 128)
    with pytest.raises(ValueError, match="an empty list came where a batch of images was wanted: pass one or more"):
        to_images([], ShortSide())


def test_shrinking_is_antialiased() -> None:
    """A one-pixel chequer becomes even grey; without antialias it would become black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = to_images([board], Letterbox(size_hw=(8, 8)), multiple=1).pixels
    assert 120 <= int(small.min()) <= int(small.max()) <= 135
