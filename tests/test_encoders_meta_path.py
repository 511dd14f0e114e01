"""The encoder of a graph's nodes against float64 loops: products with a graph's matrices, both views, masks, and what it keeps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.graph_products import Blocks, Neighbors, SparseMatrix
from kinshot.encoders.meta_path import MetaPathEncoder, Noise
from kinshot.samples.meta_paths import Csr
from kinshot.samples.spec import spec_from_dict
from tests.graph_trees import PAPERS, graph_source

DIM = 5
SPEC = graph_source(averaged=("a",)).spec


def built() -> MetaPathEncoder:
    return build_encoder("meta_path", {"dim": DIM}, SPEC, seed=3)  # type: ignore[return-value]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def dense(matrix: Csr) -> np.ndarray:
    return matrix.dense(np.arange(matrix.rows)).astype(np.float64)


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(x))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def adjacency(number: int, kept: np.ndarray | None = None) -> np.ndarray:
    """The normalised adjacency of a path, entry by entry."""
    path = SPEC.graph.paths[number]
    ways = (path.block[:, None] == path.block).astype(float) if path.ways is None else dense(path.ways)
    if kept is not None:
        ways = ways * (kept | np.eye(PAPERS, dtype=bool))
    found = np.zeros_like(ways)
    for i in range(PAPERS):
        for j in range(PAPERS):
            found[i, j] = ways[i, j] / np.sqrt(ways[i].sum() * ways[j].sum())
    return found


class Reference:
    """The encoder's formulas in float64, from its weights."""

    def __init__(self, encoder: MetaPathEncoder) -> None:
        self.w: dict[str, Any] = {name: array(p) for name, p in encoder.named_parameters()}

    def convolved(self, x: np.ndarray, a: np.ndarray) -> np.ndarray:
        x = a @ (x @ self.w["convolutions.first"])
        x = np.where(x > 0, x, self.w["convolutions.act.weight"] * x)
        x = a @ (x @ self.w["convolutions.second"])
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5)

    def own(self, features: np.ndarray) -> np.ndarray:
        return elu(features @ self.w["target.weight"].T + self.w["target.bias"])

    def kind(self, kind: str) -> np.ndarray:
        matrix = SPEC.graph.others[kind]
        x = np.eye(matrix) if isinstance(matrix, int) else dense(matrix) @ dense(SPEC.graph.features)
        return elu(x @ self.w[f"kinds.{kind}.weight"].T + self.w[f"kinds.{kind}.bias"])

    def around(self, number: int) -> np.ndarray:
        return sum(
            dense(hop.mean) @ self.kind(hop.kind) @ self.w[f"met_on.{number}.{place}.weight"].T
            for place, hop in enumerate(SPEC.graph.paths[number].hops)
        )

    def attended(self, views: list[np.ndarray]) -> np.ndarray:
        scores = []
        for view in views:
            rows = [np.tanh(self.w["attention.linear.weight"] @ row + self.w["attention.linear.bias"]) for row in view]
            scores.append(float(self.w["attention.direction"][0] @ np.mean(rows, axis=0)))
        weights = np.exp(scores) / np.exp(scores).sum()
        return sum(weight * view for weight, view in zip(weights, views, strict=True))

    def rough(self) -> np.ndarray:
        return self.convolved(self.own(dense(SPEC.graph.features)), np.mean([adjacency(k) for k in range(3)], axis=0))

    def detailed(self, features: np.ndarray | None = None, kept: list[np.ndarray] | None = None) -> np.ndarray:
        views = []
        for number in range(3):
            whole = self.own(dense(SPEC.graph.features))
            views.append(unit(self.convolved(elu(whole + self.around(number)), adjacency(number))))
            if features is not None and kept is not None:
                hidden = self.own(features)
                views.append(unit(self.convolved(elu(hidden + self.around(number)), adjacency(number, kept[number]))))
        return self.attended(views)


def test_both_views_against_loops() -> None:
    encoder = built()
    rough, detailed = encoder.views(Noise())
    np.testing.assert_allclose(array(rough), Reference(encoder).rough(), atol=2e-5)
    np.testing.assert_allclose(array(detailed), Reference(encoder).detailed(), atol=2e-5)
    np.testing.assert_allclose(array(encoder(torch.tensor([[3], [0]]))), Reference(encoder).detailed()[[3, 0]], atol=2e-5)


def test_the_masked_half_against_loops() -> None:
    encoder = built()
    masks = encoder.masks(0.4, (0.5, 0.3, 0.6), generator())
    features = dense(SPEC.graph.features)
    shown = array(encoder.graph.features(torch.eye(features.shape[1]), masks.features))
    assert 0 < (shown != features).sum() == ((shown == 0) & (features > 0)).sum() < (features > 0).sum()
    kept = []
    for path, drawn in zip(encoder.graph.paths, masks.edges, strict=True):
        kept.append(array(path(torch.eye(PAPERS), drawn)) > 0)
        assert kept[-1].diagonal().all(), "a node stays its own neighbour"
        assert 0 < kept[-1].sum() < (array(path(torch.eye(PAPERS))) > 0).sum()
    _, detailed = encoder.views(Noise(masks=masks))
    np.testing.assert_allclose(array(detailed), Reference(encoder).detailed(shown, kept), atol=2e-5)


def test_gradients_against_finite_differences() -> None:
    encoder = built().double()
    masks = encoder.masks(0.4, (0.3,), generator())

    def value() -> torch.Tensor:
        rough, detailed = encoder.views(Noise(masks=masks))
        return (torch.linspace(-1, 1, rough.numel(), dtype=torch.float64).view_as(rough) * (rough + 30 * detailed)).sum()

    value().backward()
    for name, p in encoder.named_parameters():
        direction = torch.randn(p.shape, generator=generator(1), dtype=torch.float64)
        assert p.grad is not None
        with torch.no_grad():
            p += 1e-6 * direction
            above = value()
            p -= 2e-6 * direction
            below = value()
            p += 1e-6 * direction
        assert float((p.grad * direction).sum()) == pytest.approx(float(above - below) / 2e-6, rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("number", [0, 1, 2])
def test_products_with_neighbors_and_their_gradients_are_those_of_the_matrix(number: int) -> None:
    path = built().graph.paths[number]
    assert isinstance(path, Blocks if number == 1 else Neighbors)
    x = torch.randn(PAPERS, 4, generator=generator(), requires_grad=True)
    for drawn in (None, path.masked(0.5, generator(2))):
        matrix = path(torch.eye(PAPERS), drawn).detach()
        found = path(x, drawn)
        torch.testing.assert_close(found, matrix @ x)
        (grad,) = torch.autograd.grad((found * torch.arange(4.0)).sum(), x)
        torch.testing.assert_close(grad, matrix.T @ torch.arange(4.0).expand(PAPERS, 4))


def test_a_sparse_matrix_multiplies_like_a_dense_one() -> None:
    matrix = SPEC.graph.features
    module = SparseMatrix(matrix)
    x = torch.randn(matrix.columns, 3, generator=generator())
    torch.testing.assert_close(module(x), torch.tensor(dense(matrix)).float() @ x)
    torch.testing.assert_close(module.rows(), torch.tensor(np.repeat(np.arange(PAPERS), np.diff(matrix.indptr))))


def test_what_is_drawn_depends_on_the_generator_alone() -> None:
    encoder = built()

    def drawn(seed: int) -> torch.Tensor:
        draws = generator(seed)
        return torch.cat(encoder.views(Noise(0.3, draws, encoder.masks(0.3, (0.3,), draws))))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_dropout_keeps_the_mean() -> None:
    x = torch.ones(400, 50)
    found = Noise(0.2, generator()).dropped(x)
    assert found.unique().tolist() == [0.0, 1.25]
    assert float(found.mean()) == pytest.approx(1, abs=0.02)


def test_evaluation_keeps_its_pass_until_a_weight_changes() -> None:
    encoder, nodes = built().eval(), torch.arange(4).unsqueeze(1)
    calls = []
    encoder.convolutions.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        first = encoder(nodes)
        assert torch.equal(encoder(nodes[:2]), first[:2])
        assert len(calls) == 3, "one pass of the three paths"
        encoder.convolutions.first.mul_(2)
        assert not torch.equal(encoder(nodes), first)
        other = copy.deepcopy(encoder)
        other.load_state_dict(built().state_dict())
        torch.testing.assert_close(other(nodes), first)


def test_the_graph_is_among_the_weights() -> None:
    """An encoder that was read back knows the graph without its file."""
    encoder = built().eval()
    blank = build_encoder("meta_path", {"dim": DIM}, spec_from_dict(SPEC.to_dict()), seed=5).eval()
    nodes = torch.arange(PAPERS).unsqueeze(1)
    blank.load_state_dict(encoder.state_dict())
    assert torch.equal(blank(nodes), encoder(nodes))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="dim must be at least 1"):
        build_encoder("meta_path", {"dim": 0}, SPEC)
    with pytest.raises(ConfigError, match="one for each of the paths pap, psp, pavap"):
        built().masks(0.1, (0.1, 0.2), generator())
