"""Images of any kind in, upright 8-bit RGB out, and from there the padded batch that a detector takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from torso.errors import Kind, mismatch
from torso.geometry.resize import Resizing, SizeHW
from torso.types import Images

Source = str | Path | Image.Image | npt.NDArray[Any] | Tensor

_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS_PER_SAMPLE = 256, 257, 258
_ORIENTATION = 0x0112


def read_image(source: Source) -> Image.Image:
    """An upright 8-bit RGB image from a file, a PIL image, an array [H, W(, C)] or a tensor [(C,) H, W].

    EXIF orientation is applied. 16-bit grey is scaled by its full range (65535, or what a TIFF's bits a sample say).
    Transparency is laid on white, as a viewer shows it: dropping alpha would uncover whatever colour lies hidden there.
    Arrays and tensors: channels are RGB(A) or grey; uint8 0..255, uint16 0..65535, bool, floating 0..1.
    ValueError names the source, what came and what to do.
    """
    if isinstance(source, str | Path):
        return _read_file(Path(source))
    if isinstance(source, Tensor):
        return _from_array(_tensor_to_hwc(source), "tensor")
    if isinstance(source, np.ndarray):
        return _from_array(source, "array")
    if isinstance(source, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(source), "PIL image")
    raise mismatch("image", "a path, PIL image, numpy array or tensor", Kind(source))


def image_size(path: Path) -> SizeHW:
    """(height, width) of the upright image, from the file's header alone; ValueError if none is readable."""
    try:
        with Image.open(path) as image:
            # TIFF's size may be upright already; its tags are as stored.
            tags = getattr(image, "tag_v2", {})
            width, height = tags.get(_TIFF_WIDTH, image.width), tags.get(_TIFF_HEIGHT, image.height)
            # PNG's getexif would decode the whole image to look behind it.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) >= 5
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None
    return (width, height) if turned else (height, width)


def resize_image(image: Image.Image, size_hw: SizeHW) -> Image.Image:
    """Bilinear with antialias when shrinking (Pillow's own: v2 of torchvision calls the same code for PIL images)."""
    size = (size_hw[1], size_hw[0])
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def image_to_tensor(image: Image.Image) -> Tensor:
    """uint8 [3, H, W] of an RGB image: a view of [H, W, 3] memory, which a channels_last batch copies fastest."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_images(sources: Sequence[Source], policy: Resizing, *, multiple: int = 32) -> Images:
    """Read, resize and pad images into one uint8 batch; padding is 0, at the bottom and the right.

    policy: an input part (letterbox, short_side); multiple: what the model wants of the padded sides.
    """
    if not sources:
        raise ValueError("an empty list came where a batch of images was wanted: pass one or more")
    images = [read_image(source) for source in sources]
    originals = [(image.height, image.width) for image in images]
    sizes = [policy.resized(size) for size in originals]
    tensors = [image_to_tensor(resize_image(p, size)) for p, size in zip(images, sizes, strict=True)]
    scales = [(o[1] / s[1], o[0] / s[0], 0.0, 0.0) for o, s in zip(originals, sizes, strict=True)]
    return stack_images(tensors, policy.padded(sizes, multiple), scales)


def stack_images(
    images: Sequence[Tensor], canvas_hw: SizeHW, to_original: Sequence[tuple[float, float, float, float]]
) -> Images:
    """Lay uint8 [3, h, w] images at the top left of a zeroed channels_last batch [B, 3, H, W]."""
    batch = torch.zeros((len(images), *canvas_hw, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.float32)
    return Images(batch, sizes, torch.tensor(to_original, dtype=torch.float32).reshape(-1, 4))


def as_images(given: Images | Tensor, multiple: int = 1) -> Images:
    """The batch as it is; a plain tensor [B, 3, H, W] of RGB in 0..255 as images that fill it, at their original size.

    Sides that are no multiple of `multiple` are padded at the bottom and the right. ValueError for any other tensor.
    """
    if isinstance(given, Images):
        return given
    if not isinstance(given, Tensor):
        raise mismatch("images", "Images or a tensor [B, 3, H, W] of RGB in 0..255", Kind(given))
    if given.ndim != 4 or given.shape[1] != 3 or 0 in given.shape:
        raise mismatch("images", "a tensor [B, 3, H, W] of RGB in 0..255", Kind(given))
    if given.dtype != torch.uint8 and not given.is_floating_point():
        raise mismatch("images", "a tensor of uint8 or floating RGB in 0..255", Kind(given))
    batch, _, height, width = given.shape
    sides = [torch.full((batch, 1), side, dtype=torch.float32, device=given.device) for side in (height, width)]
    own = torch.tensor([1.0, 1.0, 0.0, 0.0], device=given.device).expand(batch, 4)
    pixels = torch.nn.functional.pad(given, (0, -width % multiple, 0, -height % multiple))
    return Images(pixels, torch.cat(sides, dim=1), own)


def _read_file(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image), str(path))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ValueError:
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path}: no such file; an image was wanted: check the path or restore the file")
    if isinstance(error, IsADirectoryError):
        return ValueError(f"{path}: a folder came where one image was wanted: name the files in it")
    if isinstance(error, PermissionError):
        return ValueError(f"{path}: permission denied; a readable image was wanted: change the file's rights")
    if isinstance(error, Image.DecompressionBombError):
        return ValueError(
            f"{path}: the image has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; a smaller one was wanted: "
            "cut it into tiles"
        )
    if isinstance(error, UnidentifiedImageError):
        return ValueError(f"{path}: not an image in any format Pillow reads; replace or remove the file")
    reason = str(error).split("\n")[0]
    return ValueError(
        f"{path}: the image is truncated or corrupt ({reason}); a complete one was wanted: replace or remove the file"
    )


def _to_rgb(image: Image.Image, origin: str) -> Image.Image:
    if image.width == 0 or image.height == 0:
        raise ValueError(f"{origin}: the image has no pixels ({image.width}x{image.height}); pass one that has some")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_deep_grey(image, origin)
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, colours).convert("RGB")
    except ValueError:
        raise ValueError(f"{origin}: colour mode {image.mode} came, RGB was wanted: save it as RGB first") from None


def _from_deep_grey(image: Image.Image, origin: str) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        return _from_array(values, origin)
    bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
    top = float(2 ** min(bits, 16) - 1)
    if values.min() < 0 or values.max() > top:
        raise ValueError(
            f"{origin}: grey values {values.min():g}..{values.max():g} came, 0..{top:g} was wanted: "
            "save the image with 8 or 16 bits"
        )
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8)).convert("RGB")


def _tensor_to_hwc(tensor: Tensor) -> npt.NDArray[Any]:
    values = tensor.detach().cpu()
    if values.ndim == 3 and values.shape[0] in (1, 3, 4):
        values = values.permute(1, 2, 0)
    elif values.ndim != 2:
        raise ValueError(
            f"tensor: shape {list(tensor.shape)} came, [3, H, W], [4, H, W], [1, H, W] or [H, W] was wanted: "
            "permute it, or pass a batch as a list"
        )
    array: npt.NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()
    return array


def _from_array(array: npt.NDArray[Any], origin: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ValueError(
            f"{origin}: shape {list(array.shape)} came, [H, W] or [H, W, C] with 1, 3 or 4 channels was wanted: "
            "transpose it"
        )
    if array.size == 0:
        raise ValueError(f"{origin}: the image has no pixels (shape {list(array.shape)}); pass one that has some")
    return _to_rgb(Image.fromarray(np.ascontiguousarray(_to_uint8(array, origin))), origin)


def _to_uint8(array: npt.NDArray[Any], origin: str) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return np.rint(array / 257.0).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ValueError(
                f"{origin}: floating values {array.min():g}..{array.max():g} came, 0..1 was wanted: "
                "divide by the largest possible value, or pass uint8"
            )
        return np.rint(array * 255.0).astype(np.uint8)
    raise ValueError(f"{origin}: dtype {array.dtype} came, uint8, uint16, bool or floating was wanted: convert it")
