"""MEOW: its loss against float64 loops, what is clustered when, runs that go on bit for bit, and what is refused."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kinshot
from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.projector import mlp_projector
from kinshot.learn import METHODS
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.proto_nce import densities
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.embedder import untrained
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.samples.batch import Batch, Shown
from kinshot.ssl.methods.meow import ALL_NODES, Meow
from tests.graph_trees import PAPERS, graph_spec, write_graph

DIM = 4
SPEC = graph_spec(averaged=("a",))
QUIET = ["monitor.tensorboard=false", "monitor.keep=99", "monitor.log_every=1", "train.epochs=6", "monitor.checkpoint_every=2"]
SMALL = ["method.clusters=[3, 5]", "method.edge_masks=[0.3]", "data.neighbors=[]", "encoder.dim=6", "projector.dim=5"]


def built(batch: int = PAPERS, **settings: Any) -> Meow:
    encoder = build_encoder("meta_path", {"dim": 6}, SPEC, seed=1)
    context = RunContext(PAPERS, batch, PAPERS // batch, 100, seed=0)
    settings = {"clusters": (3, 5), **settings}
    return METHODS.build("meow", Model(encoder, mlp_projector(6, 8, DIM, 1, last_norm=False)), context, settings=settings)  # type: ignore[return-value]


def made_up(method: Meow, rows: torch.Tensor, everything: torch.Tensor, step: int = 0) -> tuple[Outputs, Batch]:
    count = len(rows) // 2
    chosen = torch.arange(count) * 2 % PAPERS
    batch = Batch(chosen, [chosen.unsqueeze(1)], step=step)
    return Outputs({"projector": rows, ALL_NODES: everything}, Shown(chosen.repeat(2), (0, 1), (rows, rows))), batch


def unit(x: np.ndarray) -> np.ndarray:
    x = np.tanh(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def expected_loss(
    rows: np.ndarray, owns: list[np.ndarray], centers: list[np.ndarray], phis: list[np.ndarray], t: float = 0.4
) -> tuple[float, float]:
    """InfoNCE weighed by clusterings, and ProtoNCE, by loops."""
    a, b = np.split(unit(rows), 2)
    info, proto = [], []
    for i in range(len(a)):
        others = sum(sum(own[i] != own[j] for own in owns) * math.exp(a[i] @ b[j] / t) for j in range(len(b)) if j != i)
        info.append(-math.log(math.exp(a[i] @ b[i] / t) / others))
        for own, c, phi in zip(owns, centers, phis, strict=True):
            said = [math.exp(a[i] @ c[k] / phi[k]) for k in range(len(c))]
            proto.append(-math.log(said[own[i]] / (len(a) * np.mean(said))))
    return float(np.mean(info)), float(np.mean(proto))


@pytest.mark.parametrize("density", ["distance", "product"])
def test_the_loss_and_its_gradient_against_loops(density: str) -> None:
    method = built(density=density, proto_weight=0.5)
    draws = torch.Generator().manual_seed(0)
    rows, everything = torch.randn(16, DIM, generator=draws), torch.randn(PAPERS, DIM, generator=draws)
    given = rows.clone().requires_grad_()
    outputs, batch = made_up(method, given, everything)
    found = method.loss(outputs, batch, 0)
    clusters = method._pending
    assert clusters is not None
    assert [len(one.centers) for one in clusters] == [3, 5]
    owns = [one.own.numpy()[batch.indices.numpy()] for one in clusters]
    assert any(len(np.unique(own)) > 1 for own in owns)
    sides = owns, [one.centers.double().numpy() for one in clusters], [one.density.double().numpy() for one in clusters]
    info, proto = expected_loss(rows.double().numpy(), *sides)
    assert float(found["info_nce"]) == pytest.approx(info, abs=1e-5)
    assert float(found["proto_nce"]) == pytest.approx(proto, abs=1e-5)
    assert found["loss"].item() == pytest.approx(info + 0.5 * proto, abs=1e-5)
    found["loss"].backward()
    assert given.grad is not None
    for place in [(0, 0), (3, 2), (8, 1), (15, 3)]:
        moved = []
        for step in (1e-5, -1e-5):
            x = rows.double().numpy().copy()
            x[place] += step
            one, two = expected_loss(x, *sides)
            moved.append(one + 0.5 * two)
        assert float(given.grad[place]) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-3, abs=1e-5)


def test_clusters_of_all_nodes_have_means_as_centers_and_temperatures_by_their_density() -> None:
    method = built()
    everything = torch.randn(PAPERS, DIM, generator=torch.Generator().manual_seed(3))
    method.loss(*made_up(method, torch.randn(8, DIM), everything), 0)
    rows = unit(everything.double().numpy())
    for one in method._pending or []:
        own = one.own.numpy()
        means = np.stack([rows[own == k].mean(0) for k in range(len(one.centers))])
        np.testing.assert_allclose(one.centers.numpy(), means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)
        assert float(one.density.mean()) == pytest.approx(0.4, rel=1e-5)


def test_densities_by_products_against_a_loop() -> None:
    draws = torch.Generator().manual_seed(1)
    z, c, own = torch.randn(20, 3, generator=draws), torch.randn(4, 3, generator=draws), torch.arange(20) % 3
    found = densities(z, c, own, temperature=0.4, smoothing=5.0, spread="product").double().numpy()
    rows, centers = (x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (z, c))
    raw = []
    for k in range(4):
        members = [i for i in range(20) if own[i] == k]
        near = [math.sqrt(max(0.0, rows[i] @ centers[k])) for i in members]
        raw.append(np.mean(near) / math.log(len(members) + 5) if len(members) > 1 else np.nan)
    raw = np.where(np.isnan(raw), np.nanmax(raw), raw)
    clipped = np.clip(raw, *np.quantile(raw, [0.1, 0.9]))
    np.testing.assert_allclose(found, 0.4 * clipped / clipped.mean(), rtol=1e-5)
    with pytest.raises(ConfigError, match="spread"):
        densities(z, c, own, spread="cosine")  # type: ignore[arg-type]


def test_without_clusters_it_is_info_nce_between_the_views() -> None:
    method = built(clusters=())
    rows = torch.randn(12, DIM, generator=torch.Generator().manual_seed(2))
    found = method.loss(*made_up(method, rows, torch.randn(PAPERS, DIM)), 0)
    assert list(found) == ["loss"]
    a, b = np.split(unit(rows.double().numpy()), 2)
    each = [-math.log(math.exp(a[i] @ b[i] / 0.4) / sum(math.exp(a[i] @ b[j] / 0.4) for j in range(6))) for i in range(6)]
    assert float(found["loss"]) == pytest.approx(np.mean(each), abs=1e-5)
    unweighed = built(weighted=False)
    assert float(unweighed.loss(*made_up(unweighed, rows, torch.randn(PAPERS, DIM)), 0)["info_nce"]) == pytest.approx(
        np.mean(each), abs=1e-5
    )


def test_clusters_and_masks_are_made_when_they_are_due() -> None:
    method = built(recluster=3, remask=2)
    kept, masks = [], []
    for step in range(7):
        batch = Batch(torch.arange(PAPERS), [torch.arange(PAPERS).unsqueeze(1)], step=step)
        method.loss(method.outputs(batch), batch, step)["loss"].backward()
        method.after_step(step)
        kept.append(method.assignments.clone())
        masks.append(method._drawn_masks(step).features.clone())
    assert [step for step in range(1, 7) if not torch.equal(kept[step], kept[step - 1])] == [3, 6]
    assert [step for step in range(1, 7) if not torch.equal(masks[step], masks[step - 1])] == [2, 4, 6]
    once = built(remask=0)
    assert torch.equal(once._drawn_masks(0).features, once._drawn_masks(99).features)


def test_a_batch_is_told_apart_among_itself_and_all_nodes_are_clustered() -> None:
    method = built(batch=6)
    batch = Batch(torch.tensor([5, 0, 9, 23, 1, 7]), [torch.tensor([5, 0, 9, 23, 1, 7]).unsqueeze(1)])
    outputs = method.outputs(batch)
    assert outputs["projector"].shape == (12, DIM)
    assert outputs[ALL_NODES].shape == (PAPERS, DIM)
    torch.testing.assert_close(outputs.blocks("projector")[1], outputs[ALL_NODES][batch.indices])
    assert torch.isfinite(method.loss(outputs, batch, 0)["loss"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": (3, 99)}, "clusters: expected numbers from 2 to 24"),
        ({"feature_mask": 1.0}, "feature_mask: expected shares from 0 to below 1"),
        ({"edge_masks": (0.1, 0.2)}, "one for each of the paths"),
        ({"temperature": 0.0}, "temperature"),
        ({"recluster": 0}, "recluster"),
        ({"batch": 1}, "a batch of at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(**settings)


def recipe(folder: Path, *given: str) -> Any:
    path = folder / "papers.npz"
    return load_recipe("meow", [f"data.root={path if path.exists() else write_graph(path)}", *SMALL, *QUIET, *given])


def same(one: Path, two: Path) -> bool:
    first, second = load_checkpoint(one), load_checkpoint(two)
    return all(weights_hash(first.tensors[part]) == weights_hash(second.tensors[part]) for part in ("encoder", "projector", "training"))


@pytest.mark.parametrize("given", [[], ["method.recluster=4", "method.remask=0"], ["train.batch_size=8"], ["method.clusters=[]"]])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(given: list[str], tmp_path: Path) -> None:
    loaded = recipe(tmp_path, *given)
    train_recipe(loaded, Options(tmp_path / "whole", quiet=True), lambda text: None)
    points = sorted((tmp_path / "whole/checkpoints").iterdir())
    train_recipe(loaded, Options(tmp_path / "again", str(points[1]), quiet=True), lambda text: None)
    assert same(tmp_path / "whole", tmp_path / "again")


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    given = ["train.epochs=60", "monitor.checkpoint_every=1", "method.recluster=4"]
    loaded = recipe(tmp_path, *given)
    train_recipe(loaded, Options(tmp_path / "whole", quiet=True), lambda text: None)
    words = ["meow", f"data.root={tmp_path / 'papers.npz'}", *SMALL, *QUIET, *given, "--out", str(tmp_path / "killed"), "-q"]
    code = "import sys; from kinshot.cli.ssl import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, "pretrain", *words])
    points = tmp_path / "killed/checkpoints"
    for _ in range(3000):
        if points.is_dir() and len(list(points.glob("step-*"))) >= 4:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    train_recipe(loaded, Options(tmp_path / "killed", "auto", quiet=True), lambda text: None)
    assert same(tmp_path / "whole", tmp_path / "killed")


def test_a_run_knows_its_graph_and_no_other(tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    train_recipe(loaded, Options(tmp_path / "run", quiet=True), lambda text: None)
    model = kinshot.load(tmp_path / "run")
    nodes = torch.arange(PAPERS).unsqueeze(1)
    found = model.embed(nodes)
    assert found["backbone"].shape == (PAPERS, 6)
    before = untrained(read(tmp_path / "run", parts=("encoder", "projector")))
    features = before.encoder.get_buffer("graph.features.values")
    assert torch.equal(features, model.encoder.get_buffer("graph.features.values"))
    assert features.abs().sum() > 0
    assert not torch.equal(before.embed(nodes)["backbone"], found["backbone"])
    with pytest.raises(DataError, match="it knows one graph's nodes"):
        model.embed(torch.tensor([[PAPERS]]))
    write_graph(tmp_path / "papers.npz", edges_ps=np.array([np.arange(PAPERS), np.arange(PAPERS) % 4]))
    point = sorted((tmp_path / "run/checkpoints").iterdir())[1]
    with pytest.raises(CheckpointError, match="other data"):
        train_recipe(loaded, Options(tmp_path / "other", str(point), quiet=True), lambda text: None)


def test_it_needs_the_encoder_with_two_views(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    loaded = load_recipe("meow", ["data=table", f"data.root={tmp_path / 't.csv'}", "encoder=mlp"])
    with pytest.raises(ConfigError, match="method meow takes node, and the samples are features"):
        train_recipe(loaded, Options(tmp_path / "run", quiet=True), lambda text: None)
