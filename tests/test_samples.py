"""Features and texts as samples: sources, specifications, normalisation, encoders, reconstruction, and embedding."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kinshot.core.context import RunContext
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.datasets.base import ArraySource
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.loader import batches, in_order
from kinshot.datasets.text import TextSource
from kinshot.datasets.views.token_mask import TokenMask
from kinshot.encoders.build import build_encoder
from kinshot.encoders.maps import Maps, place_mean
from kinshot.encoders.mlp import MLP
from kinshot.encoders.projector import mlp_projector
from kinshot.encoders.text_transformer import TextTransformer
from kinshot.kin.graph import from_edges, from_labels
from kinshot.learn.model import Model
from kinshot.runs.embedder import input_spec
from kinshot.samples.characters import ALPHABET, MASK, PADDING, UNKNOWN, encode, vocabulary_size
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.spec import input_of, spec_from_dict
from kinshot.samples.statistics import pixel_statistics
from kinshot.samples.tokens import TokenSpec
from kinshot.ssl.methods.reconstruction import Reconstruction
from tests.steps import loss_of, model_of

TEXTS = ["abc", "a", "Bad cab", "dd\tA?"]
ROWS = np.random.default_rng(0).normal(3, 2, (6, 4)).astype(np.float32)
CONTEXT = RunContext(num_samples=8, batch_size=4, steps_per_epoch=2, total_steps=4, seed=0)


# ---- sources


def test_feature_source_holds_what_it_was_given():
    source = FeatureSource(ROWS.astype(np.float64), np.arange(6) % 2, ("x", "y"))
    assert (source.kind, source.shape, len(source), source.in_memory) == ("features", (4,), 6, True)
    batch = source.load(np.array([5, 1]))
    assert batch.dtype == torch.float32
    assert batch.numpy().tolist() == ROWS[[5, 1]].tolist()
    batch.zero_()
    assert source.load(torch.tensor([5])).abs().min() > 0
    assert torch.equal(FeatureSource(torch.from_numpy(ROWS)).load(np.arange(6)), torch.from_numpy(ROWS))
    assert FeatureSource(np.eye(2, dtype=bool)).features.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(3), "matrix of numbers"),
        (np.zeros((3, 0)), "matrix of numbers"),
        (np.array([["1", "2"]]), "matrix of numbers"),
        (np.zeros((2, 2), complex), "matrix of numbers"),
        (np.array([[0.0, 1.0], [2.0, np.nan]]), "row 1, column 1 is nan"),
        (np.array([[0.0, np.inf]]), "row 0, column 1 is inf"),
        (np.array([[1e300, 0.0]]), "row 0, column 0 is 1e\\+300"),
    ],
)
def test_features_that_are_no_finite_matrix_are_refused(features, message):
    with pytest.raises(DataError, match=f"oops.*{message}"):
        FeatureSource(features, name="oops")


def test_text_source_gives_ids():
    source = TextSource(TEXTS, alphabet="abcd ", length=5)
    expected = [[3, 4, 5, 0, 0], [3, 0, 0, 0, 0], [4, 3, 6, 7, 5], [6, 6, 7, 3, UNKNOWN]]  # capitals and tabs are known
    assert source.load(np.arange(4)).tolist() == expected
    assert (source.kind, source.shape, source.spec.letters) == ("tokens", (5,), "abcd ")
    assert source.load(np.arange(2)).dtype == torch.uint8
    assert TextSource(TEXTS).shape == (7,)
    wide = TextSource(["ab"], alphabet="".join(map(chr, range(97, 97 + 300))))
    assert wide.load(np.arange(1)).dtype == torch.int64


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5), st.integers(1, 9))
def test_encoding_equals_a_loop(texts, length):
    expected = np.zeros((len(texts), length), int)
    for row, text in enumerate(texts):
        for place, character in enumerate(text[:length]):
            options = [character, " " if character.isspace() else character.lower()]
            expected[row, place] = next((3 + ALPHABET.index(o) for o in options if len(o) == 1 and o in ALPHABET), UNKNOWN)
    assert encode(texts, ALPHABET, length).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("texts", "settings", "error", "message"),
    [
        (["a", ""], {}, DataError, "text 1 is empty"),
        (["a", 3], {}, DataError, "text 1 is int"),
        ("abc", {}, DataError, "expected a list"),
        (["a"], {"length": 0}, ConfigError, "length"),
        (["a"], {"alphabet": ""}, ConfigError, "got none"),
        (["a"], {"alphabet": "aba"}, ConfigError, "'a' twice"),
        (["a"], {"labels": np.array([0, 1])}, DataError, "integer labels"),
    ],
)
def test_texts_that_do_not_fit_are_refused(texts, settings, error, message):
    with pytest.raises(error, match=message):
        TextSource(texts, **settings)


def chain(*edges, **more):
    return from_edges(np.array(edges), n=6, **more)


def test_attributes_and_graph_follow_a_subset():
    labels, site = np.array([0, 1, 2, 0, 1, 2]), np.array([1, -1, 0, 0, 1, 1])
    more = {"attributes": {"site": site}, "attribute_names": {"site": ["north", "south"]}, "graph": chain((0, 2), (2, 4), (5, 3))}
    for source in (
        FeatureSource(ROWS, labels, ("a", "b", "c"), **more),
        TextSource(["ab", "c", "d", "e", "f", "g"], labels, ("a", "b", "c"), **more),
        ArraySource(np.zeros((6, 1, 2, 2), np.uint8), labels, ("a", "b", "c"), **more),
    ):
        subset = source.subset([2, 0])
        assert subset.attributes["site"].tolist() == [1, 0, 0, 1]
        assert subset.attribute_names == {"site": ["north", "south"]}
        assert subset.graph.neighbors(np.arange(4)).indices.tolist() == [1, 0, 3, 2]  # 0, 2, 3, 5 remain
        assert subset.spec == source.spec
        assert torch.equal(subset.load(np.array([1])), source.load(np.array([2])))
        assert type(input_of(subset)) is type(input_of(source))


def test_attributes_that_do_not_fit_are_refused():
    for attributes, names in (
        ({"a": np.zeros(5, int)}, None),
        ({"a": np.zeros(5)}, None),
        ({"a": np.zeros(6)}, {"a": ["x"]}),
        ({"a": np.array([0, 1, np.inf, 0, 0, 0])}, None),
        ({"a": np.zeros((6, 2))}, None),
        ({"a": np.zeros((5, 2), bool)}, None),
        ({"a": np.zeros((6, 2), bool)}, {"a": ["x"]}),
        ({"a": np.full((6, 2), 2)}, None),
        ({"a": np.array(["x"] * 6)}, None),
        ({"a": np.full(6, -2)}, None),
        ({"a": np.full(6, 2)}, {"a": ["x", "y"]}),
        ({}, {"a": ["x"]}),
    ):
        with pytest.raises(DataError, match="'a'"):
            FeatureSource(ROWS, attributes=attributes, attribute_names=names)
    with pytest.raises(DataError, match="6 nodes for 5 samples"):
        FeatureSource(ROWS[:5], graph=chain((0, 1)))


def test_fingerprint_covers_everything():
    changed = ROWS.copy()
    changed[3, 2] += 1e-3
    site = np.array([0, 1, 0, 1, 0, -1])
    cases = [
        FeatureSource(ROWS),
        FeatureSource(changed),
        FeatureSource(ROWS.reshape(4, 6)),
        FeatureSource(ROWS, np.arange(6)),
        FeatureSource(ROWS, attributes={"site": site}),
        FeatureSource(ROWS, attributes={"place": site}),
        FeatureSource(ROWS, attributes={"site": np.abs(site)}),
        FeatureSource(ROWS, attributes={"site": site}, attribute_names={"site": ["x", "y"]}),
        FeatureSource(ROWS, graph=chain((1, 2))),
        FeatureSource(ROWS, graph=chain((1, 3))),
        FeatureSource(ROWS, graph=chain((1, 3), directed=True)),
        FeatureSource(ROWS, graph=chain((1, 3), weights=np.array([2.0]))),
        FeatureSource(ROWS, graph=chain((1, 3), negatives=np.array([[0, 1]]))),
        FeatureSource(ROWS, graph=from_labels(np.array([0, 0, 1, 1, 2, 2]))),
        FeatureSource(ROWS, graph=from_labels(np.array([0, 0, 1, 1, 2, -1]))),
        TextSource(["ab"], alphabet="ab"),
        TextSource(["cd"], alphabet="cd"),
        TextSource(["ab"], alphabet="ab", length=3),
    ]
    marks = [source.fingerprint() for source in cases]
    assert len(set(marks)) == len(marks)
    assert FeatureSource(torch.from_numpy(ROWS.copy()), name="other").fingerprint() == marks[0]
    used = chain((1, 2), (1, 2))  # merged, noted, and asked: still the same graph
    used.sample_negatives(np.arange(6), 1, np.random.default_rng(0))
    assert FeatureSource(ROWS, graph=used).fingerprint() == FeatureSource(ROWS, graph=chain((2, 1))).fingerprint()


def test_every_kind_is_loaded_by_workers():
    for source in (FeatureSource(ROWS), TextSource(["ab", "c", "d"])):
        for workers in (0, 1):
            assert torch.equal(torch.cat([x for x, _ in in_order(source, 2, workers)]), source.load(np.arange(len(source))))
        assert next(batches(source, 2, 0, 0))[0].shape == (2, *source.shape)


# ---- specifications


def test_feature_statistics_match_numpy_far_from_zero():
    values = np.random.default_rng(1).normal(0, 1, (700, 3)) * [1, 100, 1e-6] + [1e6, -5, 0]
    source = FeatureSource(np.concatenate([values, np.full((700, 1), 0.1)], axis=1))
    spec = input_of(source)
    kept = source.features.double().numpy()
    np.testing.assert_allclose(spec.mean, kept.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(spec.std[:3], kept.std(0)[:3], rtol=1e-9)
    assert spec.std[3] == 1.0
    x = spec.normalize(source.features)
    np.testing.assert_allclose(x.mean(0), np.zeros(4), atol=5e-2)  # a float32 near 1e6 is known to 0.03
    np.testing.assert_allclose(x.std(0, correction=0), [1, 1, 1, 0], atol=1e-2)
    with pytest.raises(DataError, match="no samples"):
        input_of(FeatureSource(np.zeros((0, 2))))


def test_input_of_every_kind():
    images = ArraySource(np.random.default_rng(0).integers(0, 256, (9, 3, 4, 4), dtype=np.uint8))
    assert input_of(images) == PixelSpec.square(3, 4, *pixel_statistics(images))
    assert input_of(TextSource(TEXTS, alphabet="ab")) == TokenSpec(7, "ab")
    assert TokenSpec(7, "ab").vocabulary == vocabulary_size("ab") == 5
    wide = input_of(ArraySource(np.zeros((2, 1, 2, 3), np.uint8)))
    assert (wide.shape, wide.side) == ((1, 2, 3), 3)
    with pytest.raises(ConfigError, match="expected square images, got 2 x 3 pixels"):
        _ = wide.size


def test_normalize_of_every_kind():
    tokens = torch.tensor([[3, 0]], dtype=torch.uint8)
    assert TokenSpec(2, "a").normalize(tokens).dtype == torch.int64
    spec = RowSpec(2, (1.0, 2.0), (0.5, 4.0))
    assert spec.normalize(torch.tensor([[2.0, 2.0]])).tolist() == [[2.0, 0.0]]
    assert spec.normalize(torch.tensor([[2, 2]], dtype=torch.uint8)).tolist() == [[2.0, 0.0]]  # bytes are no pixels here


@pytest.mark.parametrize("spec", [PixelSpec.square(1, 28, (0.1,), (0.3,)), RowSpec(2, (0.1, 0.2), (1.0, 2.0)), TokenSpec(5, 'a"\\é')])
def test_specifications_survive_a_file(spec):
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_specifications_of_older_files_are_images():
    assert spec_from_dict({"channels": 1, "size": 28, "mean": [0.1], "std": [0.3]}) == PixelSpec.square(1, 28, (0.1,), (0.3,))
    for wrong in ({"kind": "sound", "mean": [], "std": []}, {"kind": "tokens", "length": 3}, {"channels": 1, "mean": [0], "std": [1]}):
        with pytest.raises((KeyError, ValueError)):
            spec_from_dict(wrong)
    with pytest.raises(CheckpointError, match="does not describe the input"):
        input_spec(SimpleNamespace(path="x", state={"input": {"kind": "sound"}}))


def test_sources_that_an_encoder_cannot_embed_are_refused():
    TokenSpec(99, ALPHABET).check_source(TextSource(TEXTS))
    for source, spec, message in (
        (TextSource(TEXTS), RowSpec(1, (0.0,), (1.0,)), "holds tokens"),
        (TextSource(TEXTS, alphabet="ab"), TokenSpec(7, "ba"), "alphabet"),
        (FeatureSource(ROWS), RowSpec(3, (0.0,) * 3, (1.0,) * 3), "4 features"),
    ):
        with pytest.raises(DataError, match=message):
            spec.check_source(source)


def test_raw_features_of_every_kind():
    images = torch.tensor([0, 51], dtype=torch.uint8).view(1, 1, 1, 2)
    torch.testing.assert_close(PixelSpec.unmeasured((1, 1, 2)).raw(images), torch.tensor([[0, 0.2]]))
    assert RowSpec.unmeasured((2,)).raw(torch.tensor([[1.5, 2.0]])).tolist() == [[1.5, 2.0]]
    large = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    for alphabet, width in (("abc", 256), (large, 4096)):
        source = TextSource(["aba", "c"], alphabet=alphabet.replace(large[:3], "abc"), length=5)
        counts = source.spec.raw(source.load(torch.arange(2)))
        assert counts.shape == (2, width)
        assert counts[0, :6].tolist() == [0, 0, 0, 2, 1, 0]
        assert counts[1].sum() == 1


# ---- encoders


def tokens(spec: TokenSpec, lengths: list[int]) -> torch.Tensor:
    ids = torch.randint(3, spec.vocabulary, (len(lengths), spec.length), generator=torch.Generator().manual_seed(0))
    return ids.masked_fill(torch.arange(spec.length) >= torch.tensor(lengths)[:, None], PADDING)


def characters_of(encoder: TextTransformer, x: torch.Tensor) -> torch.Tensor:
    """Features of every character, (B, L, dim)."""
    return encoder.maps(x, ("norm",))[0].values.mT


def test_padding_never_counts():
    spec = TokenSpec(12, "abcdef")
    encoder = build_encoder("text", {"width": 16}, spec).eval()
    x = tokens(spec, [3, 12, 7, 1])
    whole, parts = encoder(x), characters_of(encoder, x)
    torch.testing.assert_close(encoder(x[[0, 3], :3]), whole[[0, 3]])
    torch.testing.assert_close(characters_of(encoder, x[:1, :3]), parts[:1, :3])
    assert parts[0, 3:].abs().max() == 0
    torch.testing.assert_close(whole[0], parts[0, :3].mean(0))
    # what stands where padding is has no way to be seen
    with torch.no_grad():
        encoder.characters.weight[PADDING] = 1e6
    torch.testing.assert_close(encoder(x), whole)
    empty = encoder(torch.zeros(2, 5, dtype=torch.int64))
    assert empty.abs().max() == 0
    with pytest.raises(ConfigError, match="made for 12 characters, got 13"):
        encoder(torch.ones(1, 13, dtype=torch.int64))


def test_text_block_equals_torch_s_transformer_layer():
    encoder = build_encoder("text", {"width": 16, "layers": 1}, TokenSpec(9, "abc")).eval()
    block = encoder.blocks[0]
    reference = nn.TransformerEncoderLayer(16, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    names = {
        "norm1": block.attention_norm, "self_attn.out_proj": block.out, "norm2": block.perceptron[0],
        "linear1": block.perceptron[1], "linear2": block.perceptron[3],
    }  # fmt: skip
    state = {f"{name}.{key}": value for name, part in names.items() for key, value in part.state_dict().items()}
    reference.load_state_dict({**state, "self_attn.in_proj_weight": block.qkv.weight, "self_attn.in_proj_bias": block.qkv.bias})
    x = tokens(encoder.input, [9, 4, 1])
    start = encoder.characters(x) + encoder.positions
    expected = encoder.norm(reference(start, src_key_padding_mask=x == PADDING))  # in training mode: no fast path
    torch.testing.assert_close(encoder(x), place_mean(Maps(expected.mT, 1, x != PADDING)), rtol=1e-4, atol=1e-5)


def test_order_of_characters_matters():
    encoder = build_encoder("text", {}, TokenSpec(4, "abc")).eval()
    assert (encoder(torch.tensor([[3, 4, 5, 0]])) - encoder(torch.tensor([[4, 3, 5, 0]]))).abs().max() > 1e-4


def test_mlp_structure():
    encoder = MLP(RowSpec(4, (0.0,) * 4, (1.0,) * 4), widths=(8, 5))
    assert [type(part).__name__ for part in encoder.layers] == ["Linear", "BatchNorm1d", "ReLU"] * 2
    assert encoder(torch.randn(3, 4)).shape == (3, encoder.dim) == (3, 5)


# ---- reconstruction


def test_masked_characters_loss_and_accuracy_against_a_loop():
    spec = TokenSpec(6, "abc")
    encoder = TextTransformer(spec, width=8, layers=1, heads=2)
    method = Reconstruction(model_of(encoder, mlp_projector(8, 8, 5, 2, last_norm=False)), CONTEXT).eval()
    clean = tokens(spec, [6, 3, 2, 4])
    view = TokenMask(spec, mask=0.4, views=1)(clean, torch.arange(4), 0, 0)[0]
    terms = loss_of(method, [view, clean], torch.arange(4), 0)
    pooled, characters = encoder(view), characters_of(encoder, view)
    losses, right = [], []
    for row, place in (view == MASK).nonzero().tolist():
        logits = method.characters(characters[row, place]) + method.context(method.projector(pooled[row : row + 1]))[0]
        losses.append(logits.logsumexp(0) - logits[clean[row, place]])
        right.append(float(logits.argmax() == clean[row, place]))
    torch.testing.assert_close(terms["loss"], torch.stack(losses).mean())
    assert terms["accuracy"].item() == pytest.approx(np.mean(right))
    nothing = loss_of(method, [clean, clean], torch.arange(4), 0)
    assert nothing["loss"].item() == 0


def test_reconstruction_predicts_the_clean_sample():
    spec = RowSpec(4, (0.0,) * 4, (1.0,) * 4)
    method = Reconstruction(model_of(MLP(spec, widths=(6,))), CONTEXT, hidden=7).eval()
    view, clean = torch.randn(3, 4), torch.randn(3, 4)
    made = method.decoder(method.encoder(view))
    torch.testing.assert_close(loss_of(method, [view, clean], torch.arange(3), 0)["loss"], (made - clean).square().mean())
    assert Reconstruction.needs_clean
    assert Reconstruction.view_count == 1
    with pytest.raises(ConfigError, match="hidden"):
        Reconstruction(model_of(MLP(spec)), CONTEXT, hidden=0)


def test_reconstruction_of_images_is_at_the_encoder_s_size():
    encoder = build_encoder("conv4", {"width": 4}, PixelSpec.square(1, 16, (0.5,), (0.5,)))
    method = Reconstruction(model_of(encoder), CONTEXT)
    x = torch.randn(2, 1, 32, 32)
    smaller = nn.functional.interpolate(x, size=(16, 16), mode="bilinear", antialias=True)
    losses = [loss_of(method, [smaller, clean], torch.arange(2), 0)["loss"] for clean in (x, smaller)]
    torch.testing.assert_close(losses[0], losses[1])


def test_reconstruction_starts_from_the_seed():
    spec = RowSpec(4, (0.0,) * 4, (1.0,) * 4)
    first, again = (Reconstruction(model_of(MLP(spec)), CONTEXT).decoder[0].weight for _ in range(2))
    assert torch.equal(first, again)


# ---- embedding


def test_embedder_takes_texts_as_strings_or_ids():
    spec = TokenSpec(5, ALPHABET)
    model = Model(build_encoder("text", {}, spec), nn.Identity()).eval()
    source = TextSource(["Some", "texts that are longer"], length=9)
    torch.testing.assert_close(model.embed(["Some", "texts that are longer"]), model.embed(source.load(np.arange(2))))
    short = TextSource(["ab"]).load(np.arange(1))
    torch.testing.assert_close(model.embed(short), model.embed(["ab"]))
    for wrong in ("one text", [1, 2], torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), torch.full((1, 2), 99)):
        with pytest.raises(DataError, match="this encoder"):
            model.embed(wrong)


def test_embedder_takes_features():
    source = FeatureSource(ROWS)
    spec = input_of(source)
    model = Model(build_encoder("mlp", {}, spec), nn.Identity()).eval()
    torch.testing.assert_close(model.embed(torch.from_numpy(ROWS))["backbone"], model.encoder(spec.normalize(torch.from_numpy(ROWS))))
    for wrong in (torch.zeros(2, 3), torch.zeros(4), torch.zeros(1, 1, 2, 2), ["text"]):
        with pytest.raises(DataError, match=r"features \(B, 4\)"):
            model.embed(wrong)
