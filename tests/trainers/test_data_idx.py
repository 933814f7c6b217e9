import gzip
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from trainers.config import DataConfig
from trainers.data import find_source, make_dataset
from trainers.data.idx import FASHION_CLASSES, FILES, read_idx
from trainers.errors import DataError


def _idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def _arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(256, size=(60, 28, 28)), np.arange(60) % 10,
        rng.integers(256, size=(20, 28, 28)), np.arange(20) % 10,
    ]  # fmt: skip


def _write(folder: Path, *, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(FILES, _arrays(), strict=True):
        content = _idx(array)
        if zipped:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / file).write_bytes(content)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ISOFLOP_MNIST_DIR", raising=False)
    monkeypatch.delenv("ISOFLOP_FASHION_MNIST_DIR", raising=False)


@pytest.mark.parametrize("zipped", [False, True])
def test_images_and_labels_are_read_gzipped_or_not(tmp_path, zipped):
    _write(tmp_path / "home/data/mnist", zipped=zipped)
    source = find_source("mnist")
    images, labels, *_ = _arrays()
    np.testing.assert_allclose(source.x[:, 0] * 255, images, rtol=1e-5)
    assert source.y.tolist() == labels.tolist()
    dataset = make_dataset(source, DataConfig(name="mnist"))
    assert dataset.input_shape == (1, 28, 28)
    assert [len(dataset.part(part)[0]) for part in ("train", "val", "test")] == [48, 12, 20]


def test_the_environment_names_another_folder(tmp_path, monkeypatch):
    _write(tmp_path / "elsewhere")
    monkeypatch.setenv("ISOFLOP_FASHION_MNIST_DIR", str(tmp_path / "elsewhere"))
    assert find_source("fashion_mnist").class_names == FASHION_CLASSES


def test_missing_files_say_three_ways_to_get_them(monkeypatch):
    monkeypatch.setattr("trainers.data.idx.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"ISOFLOP_MNIST_DIR.*pip install torchvision") as error:
        find_source("mnist")
    assert "data/mnist" in str(error.value)


def test_torchvision_fetches_where_it_is_installed(monkeypatch):
    def fetch(root, download):
        assert download
        _write(Path(root) / "MNIST" / "raw")

    package = types.ModuleType("torchvision")
    package.__spec__ = ModuleSpec("torchvision", None)
    datasets = types.ModuleType("torchvision.datasets")
    datasets.MNIST = fetch
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    assert find_source("mnist").x.shape == (60, 1, 28, 28)

    def no_network(root, download):
        raise OSError("name resolution failed")

    datasets.FashionMNIST = no_network
    with pytest.raises(DataError, match=r"could not be fetched by torchvision.*name resolution"):
        find_source("fashion_mnist")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"hello world", "starts with 68656c6c"),
        (_idx(np.zeros((3, 2)))[:-1], r"must hold \(3, 2\) values .* but holds 5"),
        (gzip.compress(_idx(np.zeros(3)), mtime=0)[:-6], "readable IDX file"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_labels_must_match_images(tmp_path):
    folder = tmp_path / "home/data/mnist"
    _write(folder)
    (folder / FILES[1]).write_bytes(_idx(np.zeros(59)))
    with pytest.raises(DataError, match=r"images \(60, 28, 28\) and labels \(59,\)"):
        find_source("mnist")
    (folder / FILES[1]).unlink()
    with pytest.raises(DataError, match="holds neither"):
        find_source("mnist")
