"""MNIST and Fashion-MNIST from IDX files: local ones, or torchvision's where it is installed."""

from __future__ import annotations

import gzip
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from trainers.data.home import data_dir
from trainers.data.source import Source
from trainers.errors import DataError

FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CLASS_NAMES = {"mnist": tuple("0123456789"), "fashion_mnist": FASHION_CLASSES}
DIRECTORY_VARIABLES = {"mnist": "ISOFLOP_MNIST_DIR", "fashion_mnist": "ISOFLOP_FASHION_MNIST_DIR"}
TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UINT8_CODE = 8


def read_idx(path: Path) -> np.ndarray:
    """Read one IDX file of unsigned bytes, gzipped or not (format: yann.lecun.com/exdb/mnist).

    Raises:
        DataError: where it cannot be read, is no IDX file, or is truncated.

    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DataError(f"`{path}` must be a readable IDX file, but reading it: {error}") from error
    num_dims = content[3] if len(content) >= 4 else 0
    header_bytes = 4 + 4 * num_dims
    if content[:3] != bytes([0, 0, UINT8_CODE]) or len(content) < header_bytes:
        raise DataError(
            f"`{path}` must be an IDX file of unsigned bytes, but starts with "
            f"{content[:4].hex() or 'nothing'} (expected 000008..); fetch it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", num_dims, offset=4))
    values = np.frombuffer(content, np.uint8, offset=header_bytes)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"`{path}` must hold {shape} values as its header says, but holds {values.size}; "
            "it is truncated or altered: fetch it again"
        )
    return values.reshape(shape)


def load_idx_set(name: str) -> Source:
    """Load `mnist` or `fashion_mnist`: 60,000 + 10,000 images [1, 28, 28], pixels 0 to 1.

    Raises:
        DataError: where the files are not found or do not fit each other.

    """
    directory = _find_directory(name)
    arrays = [read_idx(_find_file(directory, file)) for file in FILES]
    for images, labels, part in ((arrays[0], arrays[1], "train"), (arrays[2], arrays[3], "t10k")):
        if images.ndim != 3 or labels.shape != (len(images),):
            raise DataError(
                f"images and labels must have as many rows, but `{part}` of `{name}` in "
                f"`{directory}` has images {images.shape} and labels {labels.shape}; fetch it again"
            )
    x, y, x_test, y_test = arrays
    return Source(
        x=_pixels(x),
        y=y.astype(np.int64),
        x_test=_pixels(x_test),
        y_test=y_test.astype(np.int64),
        task="classification",
        class_names=CLASS_NAMES[name],
        notes={"origin": f"IDX files in {directory}"},
    )


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.asarray(images[:, None].astype(np.float32) / 255)


def _find_directory(name: str) -> Path:
    variable = DIRECTORY_VARIABLES[name]
    if variable in os.environ:
        return Path(os.environ[variable]).expanduser()
    own = data_dir() / name
    if _has_file(own, FILES[0]):
        return own
    if find_spec("torchvision") is not None:
        return _fetch_by_torchvision(name)
    raise DataError(
        f"`{name}` does not ship with isoflop: put the files {', '.join(FILES)} (or each with .gz) "
        f"into `{own}`, or name their folder in the environment variable {variable}, or "
        "`pip install torchvision`, which fetches them"
    )


def _fetch_by_torchvision(name: str) -> Path:
    import torchvision.datasets

    class_name, root = TORCHVISION_CLASSES[name], data_dir() / "torchvision"
    try:
        getattr(torchvision.datasets, class_name)(root=str(root), download=True)
    except (OSError, RuntimeError) as error:  # no network (URLError is an OSError), bad checksum
        raise DataError(
            f"`{name}` could not be fetched by torchvision into `{root}`: {error}; "
            f"put its IDX files into `{data_dir() / name}` instead"
        ) from error
    return root / class_name / "raw"


def _has_file(directory: Path, file: str) -> bool:
    return (directory / file).is_file() or (directory / f"{file}.gz").is_file()


def _find_file(directory: Path, file: str) -> Path:
    for path in (directory / file, directory / f"{file}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"`{directory}` must hold `{file}` or `{file}.gz`, but holds neither; put it there"
    )
