"""TNC, TS2Vec, TS-TCC and masked reconstruction against loops over what their networks say, whatever is absent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.learn import METHODS
from kinshot.learn.model import Model
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.frames import FramesSpec
from kinshot.samples.series import SeriesSpec
from kinshot.ssl.sequences import last_known
from tests import reference_temporal as slow
from tests.sequence_cases import CLOCK, EACH, INDICES, SECONDS, SPEC, B, N, apart_of, batch_of, method_of, rows, wide

NAN = float("nan")
NAMES = ("acc", "air")


def cropped(x: Tensor, first: float, last: float) -> Tensor:
    """Bundles of which a share of every window is measured, and what was not is not."""
    found = {name: values.clone() for name, values in SPEC.split(x).items()}
    for values in found.values():
        steps = values.shape[2]
        values[:, :, : round(first * steps)] = NAN
        values[:, :, round(last * steps) :] = NAN
    return SPEC.join(found)


def pairs_in_time(there: np.ndarray, spread: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of near and of far pairs, by loops over the clock."""
    start, recording = (np.asarray(values)[INDICES.numpy()] for values in CLOCK)
    near, far = np.zeros((B, B)), np.zeros((B, B))
    for i in range(B):
        for j in range(B):
            if i != j and recording[i] == recording[j] and there[i] and there[j]:
                lag = abs(start[i] - start[j])
                near[i, j], far[i, j] = (math.exp(-((lag / spread) ** 2) / 2), 0) if lag <= reach * spread else (0, 1)
    return near, far


def test_tnc_equals_loops_over_what_the_networks_say() -> None:
    method = method_of("tnc", length=3, hidden=5, weight=0.1)
    batch = batch_of(rows())
    outputs = method.outputs(batch)
    found, expected = method.loss(outputs, batch, 5), []
    for name, lacking in (("acc", 4), ("air", 1)):
        z, judge = wide(outputs[f"{name}/pooled"]), method.discriminators[f"of_{name}"]
        first, second, out = wide(judge.first.weight), wide(judge.second.weight), wide(judge.out.weight)[0]
        scores = np.zeros((B, B))
        for i in range(B):
            for j in range(B):
                inside = np.concatenate([first, second], axis=1) @ np.concatenate([z[i], z[j]]) + wide(judge.first.bias)
                scores[i, j] = out @ np.maximum(inside, 0) + judge.out.bias.item()
        near, far = pairs_in_time(np.arange(B) != lacking, 0.5 * SECONDS, 2.0)
        assert near.any()
        assert far.any()
        expected.append(slow.tnc(scores, near, far, 0.1))
    for term in ("near", "far"):
        assert found[term].item() == pytest.approx(slow.mean(one[term] for one in expected), rel=1e-4)
    assert found["loss"].item() == pytest.approx((found["near"] + found["far"]).item())


def test_no_pair_of_tnc_and_no_sequence_crosses_a_recording() -> None:
    method = method_of("tnc", length=3)
    recording = torch.from_numpy(CLOCK[1])
    for epoch in range(5):
        sequences = method.order(epoch).view(-1, 3)
        assert (recording[sequences] == recording[sequences[:, :1]]).all()
        assert (sequences.diff() == 1).all()
    # windows of as many recordings have nothing near and nothing far
    batch = batch_of(rows())
    alone = method_of("tnc", length=3)
    alone.windows.clock = (alone.windows.clock[0], torch.arange(N))
    assert alone.loss(alone.outputs(batch), batch, 5)["loss"] == 0
    wide_open = method_of("tnc", length=3, others=True)
    wide_open.windows.clock = (wide_open.windows.clock[0], torch.arange(N))
    assert wide_open.loss(wide_open.outputs(batch), batch, 5)["far"] > 0


@pytest.mark.parametrize("mask", [0.5, 0.0])
def test_ts2vec_equals_loops_over_what_the_networks_say(mask: float) -> None:
    method = method_of("ts2vec", "tcn" if mask else "series_cnn", mask=mask, alpha=0.3)
    batch = batch_of(cropped(rows(), 0.0, 0.7), cropped(rows(), 0.25, 1.0))
    outputs = method.outputs(batch)
    found, expected = method.loss(outputs, batch, 5), []
    for name in NAMES:
        first, second = (wide(one) for one in outputs.blocks(f"{name}/sequence"))
        one, other = (valid.numpy() for valid in outputs.blocks(f"{name}/valid"))
        assert (one & other).any()
        assert (one ^ other).any()
        expected.append(slow.hierarchical(first, second, one & other, apart_of()))
    for term in ("instance", "temporal"):
        assert found[term].item() == pytest.approx(slow.mean(one[term] for one in expected), rel=1e-4)
    assert found["loss"].item() == pytest.approx((0.3 * found["instance"] + 0.7 * found["temporal"]).item())


def test_nan_in_one_modality_leaves_what_ts2vec_says_of_another() -> None:
    method, x = method_of("ts2vec", "tcn"), rows()
    parts = {name: values.clone() for name, values in SPEC.split(x).items()}
    parts["acc"][0, 1, 3:9] = NAN  # a burst of one channel
    parts["acc"][3] = NAN  # all of it
    batch, changed = batch_of(x, x), batch_of(SPEC.join(parts), SPEC.join(parts))
    one, other = method.outputs(batch), method.outputs(changed)
    for output in ("sequence", "valid", "pooled"):
        assert torch.equal(one[f"air/{output}"], other[f"air/{output}"])
        assert not torch.equal(one[f"acc/{output}"], other[f"acc/{output}"]) or output == "valid"
    # and one channel leaves the step its others
    assert other["acc/valid"][0].all()
    assert not other["acc/valid"][3].any()


def test_ts2vec_hides_other_steps_in_every_view_modality_and_step_of_the_run() -> None:
    method, x = method_of("ts2vec", "tcn"), rows()
    hidden = method.hidden(batch_of(x, x, step=5))
    assert hidden["acc"].shape == (2 * B, 24)
    assert 0.4 < hidden["acc"].float().mean() < 0.6
    assert not torch.equal(hidden["acc"][:B], hidden["acc"][B:])
    assert not torch.equal(hidden["acc"][:, :8], hidden["air"])
    assert torch.equal(hidden["air"], method.hidden(batch_of(x, x, step=5))["air"])
    assert not torch.equal(hidden["air"], method.hidden(batch_of(x, x, step=6))["air"])
    plain = method_of("ts2vec", "tcn", mask=0.0)
    same = plain.outputs(batch_of(x, x)).blocks("acc/sequence")
    assert torch.equal(same[0], same[1])
    first, second = method.outputs(batch_of(x, x)).blocks("acc/sequence")
    assert not torch.equal(first, second)


def test_steps_are_hidden_in_the_rows_that_they_were_drawn_for() -> None:
    method, x = method_of("ts2vec", "tcn"), rows()
    batch = batch_of(x, x)
    outputs, hidden = method.outputs(batch), method.hidden(batch)
    for name, lacking in (("acc", 4), ("air", 1)):
        encoder, own = method.encoder.modalities[name], SPEC.split(x)[name]
        for view, block in enumerate(outputs.blocks(f"{name}/sequence")):
            for row in set(range(B)) - {lacking}:
                steps = hidden[name][view * B + row].unsqueeze(0)
                alone = encoder.maps(own[row : row + 1], encoder.stages[-1:], hidden=steps)[0].values[0].mT
                torch.testing.assert_close(block[row], alone)
            assert not block[lacking].any()


def test_encoders_that_hide_nothing_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"the encoder of acc, air cannot: take tcn, or set method\.mask=0"):
        method_of("ts2vec")


def ts_tcc_by_loops(method: Any, outputs: Any, name: str) -> dict[str, float]:
    """All three terms, each window's contexts from its own valid places alone."""
    at, contrast = last_known(7, "ts_tcc", 5, method.places)[name], method.contrasts[f"of_{name}"]
    views, (one, other) = outputs.blocks(f"{name}/sequence"), outputs.blocks(f"{name}/valid")
    valid, width = one & other, views[0].shape[2]
    steps, projected = contrast.maps.out_features // width, np.zeros((2, B, max(1, width // 4)))
    predicted, future = np.zeros((2, B, steps, width)), np.zeros((2, B, steps, width))
    there, knows = np.zeros((B, steps), dtype=bool), np.zeros(B, dtype=bool)
    for row in range(B):
        past = [place for place in range(at + 1) if valid[row, place]]
        knows[row] = bool(past)
        for side in range(2) if past else ():
            context = contrast.context(views[side][row, past].unsqueeze(0), torch.ones(1, len(past), dtype=torch.bool))
            projected[side, row] = wide(contrast.project(context)[0])
            for k in range(steps):
                predicted[side, row, k] = wide(contrast.maps.weight[k * width : (k + 1) * width]) @ wide(context[0])
                if at + 1 + k < valid.shape[1] and valid[row, at + 1 + k]:
                    future[side, row, k], there[row, k] = wide(views[side][row, at + 1 + k]), True
    apart = apart_of()
    return {
        "weak_to_strong": slow.cpc(predicted[0], future[1], there, apart, 1.0),
        "strong_to_weak": slow.cpc(predicted[1], future[0], there, apart, 1.0),
        "contextual": slow.nt_xent_at_each_place(projected[0][:, None], projected[1][:, None], knows[:, None], apart, 0.2),
    }


def test_ts_tcc_equals_loops_over_what_the_networks_say() -> None:
    method = method_of("ts_tcc", steps=3, hidden=8, layers=2, heads=2, mlp=6).eval()  # the projection's statistics stand still
    other = {name: values.clone() for name, values in SPEC.split(rows(1)).items()}
    other["acc"][0, :, 6:14] = NAN
    batch = batch_of(rows(), SPEC.join(other))
    outputs = method.outputs(batch)
    found, every = method.loss(outputs, batch, 5), [ts_tcc_by_loops(method, outputs, name) for name in NAMES]
    expected = {term: slow.mean(one[term] for one in every) for term in every[0]}
    for term, value in expected.items():
        assert found[term].item() == pytest.approx(value, rel=1e-4), term
    total = expected["weak_to_strong"] + expected["strong_to_weak"] + 0.7 * expected["contextual"]
    assert found["loss"].item() == pytest.approx(total, rel=1e-4)


def test_ts_tcc_of_windows_that_show_nothing_in_common_costs_nothing() -> None:
    method = method_of("ts_tcc", hidden=8, heads=2)
    batch = batch_of(cropped(rows(), 0.0, 0.25), cropped(rows(), 0.75, 1.0))
    loss = method.loss(method.outputs(batch), batch, 5)["loss"]
    assert loss == 0
    loss.backward()


def hidden_rows() -> tuple[Tensor, Tensor]:
    """A view that hides spans, and `air` of the third sample as a whole, beside the clean samples."""
    clean = rows()
    view = {name: values.clone() for name, values in SPEC.split(clean).items()}
    view["acc"][0, 0, 5:9], view["acc"][2, :, 10:14], view["air"][2], view["air"][0, 0, 2:4] = NAN, NAN, NAN, NAN
    return SPEC.join(view), clean


@pytest.mark.parametrize("each", list(EACH))
def test_masked_reconstruction_asks_for_what_was_hidden_and_measured(each: str) -> None:
    method = method_of("masked_reconstruction", each, hidden=7, waves=3)
    view, clean = hidden_rows()
    batch = batch_of(view, clean=clean)
    outputs = method.outputs(batch)
    found, costs, means = method.loss(outputs, batch, 5), [], []
    shown, whole = SPEC.split(view), SPEC.split(clean)
    for name in NAMES:
        rebuilt = wide(method.decoders[f"of_{name}"](outputs[f"{name}/sequence"], outputs["backbone"], whole[name].shape[2]))
        x, seen, cost, mean = wide(whole[name]), wide(shown[name]), [], []
        for place in np.ndindex(*x.shape):
            if np.isnan(seen[place]) and not np.isnan(x[place]):
                cost.append((rebuilt[place] - x[place]) ** 2)
                mean.append(x[place] ** 2)
        costs.append(slow.mean(cost))
        means.append(slow.mean(cost) / slow.mean(mean))
    assert found["loss"].item() == pytest.approx(slow.mean(costs), rel=1e-4)
    assert found["of_mean"].item() == pytest.approx(slow.mean(means), rel=1e-4)


def test_a_modality_that_is_hidden_is_rebuilt_from_the_others() -> None:
    method = method_of("masked_reconstruction").eval()
    view, clean = hidden_rows()
    told = {name: values.clone() for name, values in SPEC.split(view).items()}
    told["acc"][2, :, :10] += 1

    def rebuilt(x: Tensor) -> Tensor:
        outputs = method.outputs(batch_of(x, clean=clean))
        found: Tensor = method.decoders["of_air"](outputs["air/sequence"], outputs["backbone"], 8)
        return found

    assert not outputs_of_air(method, view)[2].any()
    before, after = rebuilt(view), rebuilt(SPEC.join(told))
    assert not torch.allclose(before[2], after[2])
    assert before[2].std() > 0  # and not one number: it knows the time
    assert torch.equal(before[0], after[0])


def outputs_of_air(method: Any, x: Tensor) -> Tensor:
    found: Tensor = method.outputs(batch_of(x))["air/sequence"]
    return found


def test_where_nothing_is_hidden_nothing_is_asked() -> None:
    method, clean = method_of("masked_reconstruction"), rows()
    batch = batch_of(clean, clean=clean)
    loss = method.loss(method.outputs(batch), batch, 5)["loss"]
    assert loss == 0
    loss.backward()
    assert not any(p.grad.any() for p in method.decoders.parameters())


def test_a_decoder_that_is_trained_rebuilds_better_than_the_mean() -> None:
    """Waves of one frequency and any phase, of which the middle is hidden."""
    spec = SeriesSpec(1, 16, 10.0, (0.0,), (1.0,))
    method = method_of("masked_reconstruction", "tcn", spec=spec, hidden=16)
    steps = torch.arange(16) / 16 * 2 * math.pi
    phase = torch.rand(B, 1, 1, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    clean = 2**0.5 * (steps + phase).sin()
    view = clean.clone()
    view[:, :, 5:10] = NAN
    batch, optimizer = batch_of(view, clean=clean), torch.optim.Adam(method.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        terms = method.loss(method.outputs(batch), batch, 0)
        terms["loss"].backward()
        optimizer.step()
    assert terms["of_mean"] < 0.1
    assert terms["share"] == pytest.approx(5 / 16)


FILMED = BundleSpec(("acc", "cam"), (SPEC.modalities["acc"], FramesSpec.unmeasured((1, 6, 16, 16), 12.5)))
SMALL = {"ts_tcc": {"hidden": 8, "heads": 2}, "tnc": {"length": 3}, "ts2vec": {"mask": 0.0}}


@pytest.mark.parametrize("name", ["cpc", "tnc", "ts_tcc", "ts2vec", "masked_reconstruction"])
def test_frames_are_a_sequence_beside_others(name: str) -> None:
    film = ["cam=frame_encoder:image='conv4:width=4'"]
    encoder = build_encoder("fused", {"each": EACH["series_cnn"], "other": film}, FILMED)
    method = METHODS.build(name, Model(encoder), RunContext(N, B, 4, 40, 7, clock=CLOCK), settings=SMALL.get(name, {}))
    parts = {key: values.clone() for key, values in FILMED.split(FILMED.noise(B, torch.Generator().manual_seed(1))).items()}
    parts["cam"][1], parts["cam"][2, :, 4:] = NAN, NAN
    clean = FILMED.join(parts)
    parts["acc"][0, 0, 5:9] = NAN
    batch = batch_of(*[FILMED.join(parts)] * method.view_count, clean=clean)
    loss = method.loss(method.outputs(batch), batch, 5)["loss"]
    assert torch.isfinite(loss)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert sum(p.grad.abs().sum() for p in encoder.modalities["cam"].parameters()) > 0


REFUSED = [
    ("tnc", {"weight": 1.0}, "tnc: weight must be"),
    ("tnc", {"spread": 0.0}, "tnc: spread and reach"),
    ("tnc", {"length": 4}, "sequences of 4 windows do not fill a batch of 6"),
    ("tnc", {"clock": None, "length": 3}, "tnc needs to know when windows begin"),
    ("ts2vec", {"mask": 1.0}, "ts2vec: mask must be"),
    ("ts_tcc", {"heads": 3}, "heads divide hidden"),
    ("ts_tcc", {"temperature": 0.0}, "ts_tcc: temperature must be above 0"),
    ("masked_reconstruction", {"waves": 0}, "hidden and waves must be at least 1"),
]


@pytest.mark.parametrize(("name", "given", "message"), REFUSED, ids=[f"{name}-{next(iter(given))}" for name, given, _ in REFUSED])
def test_settings_out_of_range_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method_of(name, **given)
