"""kinshot in other people's loops: every program of docs/loops.md, and what its names promise, beside slow or foreign references."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import kinshot
from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import ArraySource
from kinshot.datasets.fields import FieldsSource
from tests.loops_data import LABELS, Pictures, tiny_source, write_photos

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "loops.md").read_text(encoding="utf-8")
PROGRAMS = [(heading, block) for heading, block in re.findall(r"^## ([^\n]+)$|```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)]


def programs() -> Iterator[Any]:
    """Every block of the page, by its heading."""
    heading, number = "", 0
    for found, block in PROGRAMS:
        heading, number = (found, 0) if found else (heading, number + 1)
        if block:
            yield pytest.param(block, id=f"{heading} {number}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled_photos, five classes of twenty real images."""
    return write_photos(tmp_path_factory.mktemp("loops"))


@pytest.mark.parametrize("program", [*programs()])
def test_a_program_of_the_page_runs(program: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if "import timm" in program:
        pytest.importorskip("timm")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        exec(compile(program, "docs/loops.md", "exec"), {"__name__": "__main__"})


def test_five_lines_are_five() -> None:
    section = PAGE.partition("in five lines\n")[2]
    program = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert program
    assert len(program[1].strip().splitlines()) == 5


# -- sources as data sets


class Counted(ArraySource):
    """A source that counts how often it is asked."""

    asked = 0

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        self.asked += 1
        return super()._load(rows, field)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_what_the_source_holds(workers: int) -> None:
    source = tiny_source()
    data = kinshot.as_dataset(source, with_index=True)
    batches = list(DataLoader(data, batch_size=8, num_workers=workers))
    images, labels, numbers = (torch.cat(column) for column in zip(*batches, strict=True))
    assert torch.equal(images, source.load(range(30)))
    assert images.dtype == torch.uint8
    assert labels.tolist() == data.targets == data.get_labels() == source.labels.tolist()
    assert numbers.tolist() == list(range(30))
    assert data.classes == ["c0", "c1", "c2"]


def test_a_batch_is_asked_for_at_once_and_items_alone() -> None:
    source = Counted(torch.zeros(30, 1, 4, 4, dtype=torch.uint8), np.arange(30) % 3)
    data = kinshot.as_dataset(source, v2.ToDtype(torch.float32, scale=True), target_transform=str)
    assert len(list(DataLoader(data, batch_size=10))) == 3
    assert source.asked == 3
    sample, label = data[-1]
    assert (sample.dtype, label) == (torch.float32, "2")
    with pytest.raises(IndexError):
        data[30]
    unlabelled = kinshot.as_dataset(kinshot.as_source(torch.zeros(5, 1, 4, 4, dtype=torch.uint8)))
    assert isinstance(unlabelled[0], torch.Tensor)
    assert len(list(unlabelled)) == 5  # the old protocol of iteration ends


def test_fields_come_by_name_and_masks_turn_with_their_images() -> None:
    scenes = kinshot.sources.glyph_scenes(split="val", size=32, classes=6, per_class=4)
    plain, turned = (kinshot.as_dataset(scenes, transform)[1] for transform in (None, v2.RandomHorizontalFlip(p=1)))
    assert set(plain) == {"image", "mask"}
    for field in plain:
        assert torch.equal(torch.as_tensor(turned[field]), plain[field].flip(-1)), field
        assert not torch.equal(torch.as_tensor(turned[field]), plain[field]), field
    (batch,) = DataLoader(kinshot.as_dataset(scenes, v2.RandomHorizontalFlip(p=1)), batch_size=len(scenes))
    assert batch["mask"].shape == (len(scenes), 32, 32)
    assert list(kinshot.as_dataset(scenes, fields=["mask"])[0]) == ["mask"]
    with pytest.raises(ConfigError, match="no field 'maks': did you mean 'mask'"):
        kinshot.as_dataset(scenes, fields=["maks"])


def test_absent_sensors_are_not_a_number() -> None:
    streams = {"wrist": np.ones((4, 3, 8), np.float32), "air": np.ones((4, 1, 2), np.float32)}
    there = {"air": np.array([True, False, True, True])}
    from kinshot.datasets.series import SeriesSource

    fields = {name: SeriesSource(values, rate=float(values.shape[2]), name=name) for name, values in streams.items()}
    batch, labels = next(iter(DataLoader(kinshot.as_dataset(FieldsSource(fields, np.arange(4), present=there)), batch_size=4)))
    assert batch["air"].isnan().any(dim=(1, 2)).tolist() == [False, True, False, False]
    assert (batch["wrist"].shape, labels.tolist()) == ((4, 3, 8), [0, 1, 2, 3])


def test_a_file_that_cannot_be_read_is_named_from_a_worker(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            Image.new("RGB", (40, 40), (number, 9, 9)).save(tmp_path / kind / f"{number}.png")
    source = kinshot.sources.folder(root=str(tmp_path), size=16, in_memory_mib=0)
    (tmp_path / "b" / "1.png").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"cannot read image .*b/1\.png"):
        list(DataLoader(kinshot.as_dataset(source), batch_size=2, num_workers=1))


# -- data sets as sources


@pytest.mark.parametrize("in_memory_mib", [1024, 0])
def test_a_data_set_as_a_source(place: Path, in_memory_mib: int) -> None:
    data = ImageFolder(str(place / "labelled_photos"))
    ours = kinshot.as_source(data, size=24, in_memory_mib=in_memory_mib)
    by_folder = kinshot.sources.folder(root=str(place / "labelled_photos"), size=24)
    order = [data.samples.index((str(path), label)) for path, label in zip(by_folder.files, by_folder.labels.tolist(), strict=True)]
    assert torch.equal(ours.load(order), by_folder.load(range(100)))
    assert ours.labels[order].tolist() == by_folder.labels.tolist()
    assert list(ours.class_names) == list(by_folder.class_names) == data.classes
    assert ours.in_memory is (in_memory_mib > 0)
    assert len(ours.fingerprint()) == 64


def test_labels_of_items_are_taken_where_nothing_else_says_any() -> None:
    ours = kinshot.as_source(Pictures(), size=8, channels=1)
    assert (ours.shape, ours.labels.tolist(), list(ours.class_names)) == ((1, 8, 8), [0, 1] * 3, ["zero", "one"])
    assert kinshot.as_source(Pictures(labelled=False), size=8).labels is None
    assert kinshot.as_source(Pictures(), [0, 0, 0, 1, 1, 1], size=8).labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert kinshot.as_source(np.zeros((5, 7, 7), np.uint8)).shape == (1, 7, 7)
    assert kinshot.as_source(torch.zeros(5, 7), [1, 0, 1, 0, 1]).kind == "features"
    assert kinshot.as_source(ours) is ours


@pytest.mark.parametrize(
    ("data", "more", "words"),
    [
        (Pictures(), {}, r"Pictures, item 1 has the shape \(3, 30, 21\), item 0 has \(3, 30, 20\): give size="),
        (Pictures(), {"size": 8, "labels": [0, 1]}, "one whole number as the label of each of 6 samples, got 2"),
        (TensorDataset(torch.rand(4, 3, 8, 8), torch.arange(4)), {}, r"torch.float32 \(3, 8, 8\): expected a picture.*leave ToTensor"),
        (torch.rand(4, 3, 8, 8), {}, "expected images uint8"),
        (3, {}, "expected an array, or a data set"),
        (TensorDataset(torch.zeros(0, 3, 8, 8)), {}, "no sample"),
    ],
)
def test_what_is_no_source_is_refused(data: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        kinshot.as_source(data, **more)


# -- episodes


def test_an_episode_is_what_it_says() -> None:
    sampler = kinshot.EpisodeSampler(LABELS, ways=3, shots=2, queries=4, episodes=50, tasks=2)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 50
    assert batches == list(sampler)
    for batch in batches:
        rows = torch.tensor(batch)
        support, labels, query, query_labels = sampler.unpack(rows)
        assert labels.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
        assert query_labels.tolist() == [[0] * 4 + [1] * 4 + [2] * 4] * 2
        for task in range(2):
            images = [*support[task].tolist(), *query[task].tolist()]
            assert len(set(images)) == 18
            classes = [LABELS[support[task][labels[task] == way]] for way in range(3)]
            assert [len(set(way.tolist())) for way in classes] == [1, 1, 1]
            assert len({int(way[0]) for way in classes}) == 3
            assert all(way[0] >= 0 for way in classes)
            assert [LABELS[i] for i in query[task]] == [way[0] for way in classes for _ in range(4)]


def test_episodes_follow_from_seed_epoch_and_number() -> None:
    def drawn(epoch: int = 0, **more: int) -> list[list[int]]:
        sampler = kinshot.EpisodeSampler(LABELS, ways=2, shots=1, queries=1, **{"episodes": 20, **more})
        sampler.set_epoch(epoch)
        return list(sampler)

    assert drawn() != drawn(seed=1)
    assert drawn() != drawn(epoch=1)
    assert drawn(epoch=3) == drawn(epoch=3)
    assert drawn(episodes=30)[:20] == drawn()
    shared = [drawn(rank=rank, replicas=3) for rank in range(3)]
    assert [shared[number % 3][number // 3] for number in range(20)] == drawn()
    assert list(map(len, shared)) == [7, 7, 6]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_any_labelled_data_set(workers: int, place: Path) -> None:
    whole = ImageFolder(str(place / "labelled_photos"), v2.Compose([v2.Resize((8, 8)), v2.PILToTensor()]))
    half = Subset(whole, list(range(0, 100, 2)))
    tensors = TensorDataset(torch.stack([image for image, _ in half]), torch.tensor([y for _, y in half]))
    for data in (whole, half, ConcatDataset([half, half]), tensors):
        sampler = kinshot.EpisodeSampler(data, ways=3, shots=1, queries=2, episodes=2)
        plain = DataLoader(data, batch_sampler=sampler, num_workers=workers)
        packed = DataLoader(data, batch_sampler=sampler, num_workers=workers, collate_fn=sampler.collate)
        for (images, y), task in zip(plain, packed, strict=True):
            assert torch.equal(torch.cat([task.support, task.query], 1)[0].sort(0).values, images.sort(0).values)
            ways = sampler.unpack(y)
            assert (ways.support[0][task.labels[0]] == ways.support[0]).all()
            assert (ways.support[0][task.query_labels[0]] == ways.query[0]).all()


@pytest.mark.parametrize(
    ("data", "more", "words", "error"),
    [
        (LABELS, {"ways": 1}, "ways must be at least 2", ConfigError),
        (LABELS, {"rank": 2, "replicas": 2}, r"rank must be one of 0\.\.1", ConfigError),
        (LABELS, {"ways": 6}, "need 6 classes, got 5", DataError),
        (LABELS, {"queries": 9}, "class 0 has 9 images, an episode needs 10", DataError),
        (tiny_source(), {"queries": 10}, r"class 0 \('c0'\) has 10 images", DataError),
        (Pictures(), {}, r"Pictures does not say its labels.*give the labels in its place", ConfigError),
        (torch.rand(5), {}, "does not say its labels", ConfigError),
    ],
)
def test_what_gives_no_episodes_is_refused(data: Any, more: dict[str, int], words: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=words):
        kinshot.EpisodeSampler(data, **{"ways": 2, "shots": 1, "queries": 1, "episodes": 2, **more})


def test_half_a_batch_is_no_episode() -> None:
    sampler = kinshot.EpisodeSampler(LABELS, ways=2, shots=1, queries=1, episodes=2)
    with pytest.raises(DataError, match="has 4 rows, got 3"):
        sampler.unpack(torch.zeros(3, 8))


def test_easyfsl_takes_our_data_sets() -> None:
    samplers = pytest.importorskip("easyfsl.samplers", reason="easyfsl is optional")
    data = kinshot.as_dataset(tiny_source())
    theirs = samplers.TaskSampler(data, n_way=2, n_shot=1, n_query=2, n_tasks=3)
    assert len(list(DataLoader(data, batch_sampler=theirs, collate_fn=theirs.episodic_collate_fn))) == 3
