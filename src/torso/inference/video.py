"""Video: frames of a file as images, and images as an H.264 file, through PyAV (extra `video`)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})

_USUAL_RATE = Fraction(25)  # frames a second, where a file does not say


def is_video(path: str | Path) -> bool:
    """Whether the suffix is one of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def require_decoder() -> Any:
    """The module av; ImportError says how to get it."""
    try:
        import av
    except ImportError as error:
        raise ImportError("video needs a decoder: pip install 'torso[video]'") from error
    return av


def read_frames(path: str | Path) -> Iterator[Image.Image]:
    """The frames of the first video stream, upright RGB, in order; ValueError for a file that is no readable video."""
    av = require_decoder()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(_stream(container, path)):
                image: Image.Image = frame.to_image()
                turn = round(getattr(frame, "rotation", 0)) % 360  # counter-clockwise, of the display matrix
                yield image.rotate(turn, expand=True) if turn else image
    except (OSError, av.error.FFmpegError) as error:
        raise _unreadable(path, error) from None


def frame_rate(path: str | Path) -> Fraction:
    """Frames a second."""
    av = require_decoder()
    try:
        with av.open(str(path)) as container:
            return Fraction(_stream(container, path).average_rate or _USUAL_RATE)
    except (OSError, av.error.FFmpegError) as error:
        raise _unreadable(path, error) from None


class VideoWriter:
    """An H.264 file of images of one size; opened by the first image, closed by the `with` block.

    rate: frames a second. Odd sides lose their last row or column, which H.264 cannot hold.
    """

    def __init__(self, path: str | Path, rate: Fraction) -> None:
        self.path, self.rate = Path(path), rate
        self._av = require_decoder()
        self._container: Any = None
        self._stream: Any = None

    def write(self, image: Image.Image) -> None:
        """Append one frame."""
        size = (image.width // 2 * 2, image.height // 2 * 2)
        if self._container is None:
            self._container = self._av.open(str(self.path), "w")
            self._stream = self._container.add_stream("libx264", rate=self.rate)
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = "yuv420p"  # what browsers and players show
        if size != (self._stream.width, self._stream.height):
            raise ValueError(
                f"{self.path}: a frame of {size[0]}x{size[1]} came after frames of "
                f"{self._stream.width}x{self._stream.height}; one size was wanted"
            )
        frame = self._av.VideoFrame.from_image(image.crop((0, 0, *size)))
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is None:
            return
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def _stream(container: Any, path: str | Path) -> Any:
    if not container.streams.video:
        raise ValueError(f"{path}: no video stream in this file; a video or an image was wanted")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _unreadable(path: str | Path, error: Exception) -> ValueError:
    reason = str(error).split("\n")[0]
    return ValueError(f"{path}: cannot be decoded as a video ({reason}); a complete video was wanted: replace the file")
