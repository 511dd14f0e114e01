"""What an index costs beside its encoder, and a search beside brute force: CPU time, and the clock on the wall.

`python -m benchmarks.index --data FOLDER [--encoder NAME] [--files N] [--json FILE]`. Photographs of FOLDER are saved again as N files of
48 pixels, mirrored and shifted where there are fewer, so that every content is new. One side is the whole of `ssl index`, files to index on
the disk; the other is the encoder alone, on tensors that are ready, in the same batches. Then rows of noise are searched: one query by an
index that is open, and by a matrix product over rows that are at unit length already.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.common import CLOCKS, Measured, alternate, parser, ratios, say, settle, write_result
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.images import load_image
from kinshot.datasets.survey import list_images
from kinshot.encoders.build import build_encoder
from kinshot.index import shards
from kinshot.index.building import BATCH, build_index
from kinshot.index.nearest import Shelves
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.runs.classifier import open_encoder
from kinshot.runs.encoder_identity import EncoderIdentity
from kinshot.samples.pixels import PixelSpec

SIDE, FILES, BAR, K = 48, 10_000, 1.15, 10
GALLERIES = (10_000, 100_000)


def encoder(name: str) -> tuple[Model, EncoderIdentity]:
    """An untrained Conv-4 for 48 pixels, whose time is that of a trained one, or a backbone."""
    if name != "conv4":
        return open_encoder(name)
    spec = PixelSpec.square(3, SIDE, (0.5,) * 3, (0.5,) * 3)
    network = build_encoder("conv4", {}, spec)
    return Model(network, input=spec).eval(), EncoderIdentity(name, weights_hash(network.state_dict()), spec, "conv4", {})


def write_files(data: Path, place: Path, count: int) -> list[Path]:
    """So many photographs of 48 pixels, each another one."""
    known, files = list_images(data), []
    for number in range(count):
        pixels = load_image(known[number % len(known)], SIDE, 3).transpose(1, 2, 0)
        turn = number // len(known)
        pixels = np.roll(pixels[:, ::-1] if turn % 2 else pixels, turn, axis=1)
        files.append(place / f"{number % 100:02d}" / f"{number:06d}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(files[-1])
    return files


def timed(work: Callable[[], object], both: list[tuple[float, float]]) -> float:
    """CPU seconds of a call; both clocks are kept."""
    started = [CLOCKS[name]() for name in ("cpu", "wall")]
    work()
    cpu, wall = (CLOCKS[name]() - before for name, before in zip(("cpu", "wall"), started, strict=True))
    both.append((cpu, wall))
    return cpu


def indexing(name: str, data: Path, count: int, rounds: int) -> list[Measured]:
    """Rows of `ssl index` beside its encoder."""
    model, identity = encoder(name)
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "in", Path(scratch) / "index"
        files = write_files(data, folder, count)
        some = min(count, 512)  # ready tensors of so many, over and over: a network's time does not depend on what is in a picture
        spec = model.input
        if not isinstance(spec, PixelSpec):
            raise TypeError("an encoder of images is measured")
        ready = torch.from_numpy(np.stack([load_image(file, spec.size, spec.channels) for file in files[:some]])).split(BATCH)

        def alone() -> None:
            for number in range(-(-count // BATCH)):
                model.embed(ready[number % len(ready)])

        def whole() -> None:
            shutil.rmtree(out, ignore_errors=True)
            build_index(folder, out, opened=(model, identity))

        clocks: dict[str, list[tuple[float, float]]] = {"whole": [], "alone": []}
        model.embed(ready[0])
        alternate({"whole": lambda: timed(whole, clocks["whole"]), "alone": lambda: timed(alone, clocks["alone"])}, rounds)
        again: list[tuple[float, float]] = []
        timed(lambda: build_index(folder, out, opened=(model, identity)), again)
    rows = []
    for at, clock in enumerate(("CPU", "wall")):
        ours, theirs = (tuple(one[at] for one in clocks[side]) for side in ("whole", "alone"))
        title = f"{name}, {count} files of {SIDE} pixels"
        rows += [
            Measured(f"{title}: ssl index", f"{clock} s", ours),
            Measured(f"{title}: the encoder alone", f"{clock} s", theirs),
            Measured(f"{title}: ssl index / the encoder alone", f"{clock} ratio", ratios(ours, theirs)),
            Measured(f"{title}: ssl index again, nothing new", f"{clock} s", (again[0][at],)),
        ]
    return rows


def searching(width: int, rounds: int) -> list[Measured]:
    """Rows of one query, by an index and by a product over all rows."""
    rows = []
    for count in GALLERIES:
        rng = keyed_numpy(0, "index benchmark", count)
        gallery = torch.from_numpy(rng.standard_normal((count, width), dtype=np.float32))
        query = torch.from_numpy(rng.standard_normal((1, width), dtype=np.float32))
        unit, shelves = torch.nn.functional.normalize(gallery, dim=1), Shelves(gallery.split(shards.ROWS))
        shelves.nearest(query, K)

        def brute(unit: torch.Tensor = unit, query: torch.Tensor = query) -> object:
            return (torch.nn.functional.normalize(query, dim=1) @ unit.T).topk(K)

        sides = {"ours": lambda: _milliseconds(lambda: shelves.nearest(query, K)), "brute": lambda: _milliseconds(brute)}  # noqa: B023
        found = alternate(sides, max(5, rounds))
        title = f"one query in {count} rows of {width} numbers"
        rows.append(Measured(f"{title}: the index", "CPU ms", found["ours"]))
        rows.append(Measured(f"{title}: product and top-k", "CPU ms", found["brute"]))
    return rows


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def main() -> int:
    """Measure and write; returns the exit code."""
    arguments = parser((__doc__ or "").splitlines()[0], rounds=3, steps=1)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--encoder", action="append", metavar="NAME[:FILES]", help="conv4, or a backbone, and how many files it gets")
    arguments.add_argument("--files", type=int, default=FILES, help="files, where an encoder does not say (default %(default)s)")
    given: argparse.Namespace = arguments.parse_args()
    allocator = settle(given.threads)
    rows: list[Measured] = []
    for text in given.encoder or ["conv4", "efficientnet_lite0"]:
        name, _, count = text.partition(":")
        rows += indexing(name, given.data, int(count or given.files), given.rounds)
        for row in rows[-8:]:
            say(row.line())
    rows += searching(1280, given.rounds)
    for row in rows[-2 * len(GALLERIES) :]:
        say(row.line())
    if given.json:
        notes = [
            f"{given.threads} threads for the encoder; files are decoded by threads beside it, whose time the CPU clock counts too",
            f"what was hoped for is a ratio of {BAR:g}",
            "the machine was busy with other work: the wall clock says little",
            allocator,
        ]
        write_result(given.json, "benchmarks.index", {"photographs": given.data.name, "batch": BATCH}, rows, ["numpy", "pillow"], notes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
