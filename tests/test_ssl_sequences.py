"""Methods of sequences: their losses against loops over what their networks say, whatever is absent, and what they refuse."""

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
from kinshot.learn.outputs import Outputs
from kinshot.samples.series import SeriesSpec
from kinshot.ssl.sequences import SERIES, last_known, sequences, share_found, shown_by
from tests import reference_temporal as slow
from tests.sequence_cases import ACC, EACH, INDICES, SPEC, B, N, apart_of, batch_of, method_of, rows, wide


@pytest.mark.parametrize("each", list(EACH))
def test_one_pass_gives_what_the_encoder_gives(each: str) -> None:
    model, x = method_of("cpc", each).model.eval(), rows()
    found = sequences(model, batch_of(x), range(1))
    torch.testing.assert_close(found["backbone"], model.encoder(x))
    parts = SPEC.split(x)
    for name, lacking in (("acc", 4), ("air", 1)):
        encoder, there = model.encoder.modalities[name], [row for row in range(B) if row != lacking]
        maps = encoder.maps(parts[name][there], encoder.stages[-1:])[0]
        torch.testing.assert_close(found[f"{name}/sequence"][there], maps.values.mT)
        assert torch.equal(found[f"{name}/valid"][there], maps.valid)
        torch.testing.assert_close(found[f"{name}/pooled"][there], encoder.pool(maps))
        for output in ("sequence", "valid", "pooled"):
            assert not found[f"{name}/{output}"][lacking].any()
    alone = method_of("cpc", each, spec=ACC).model.eval()
    stage = alone.encoder.stages[0]
    found = sequences(alone, batch_of(parts["acc"]), range(1), (stage,))
    torch.testing.assert_close(found["backbone"], alone.encoder(parts["acc"]))
    torch.testing.assert_close(found[stage], alone.encoder.maps(parts["acc"], [stage])[0].values)
    assert found[f"{SERIES}/sequence"].shape[0] == B


def test_only_those_that_have_a_modality_enter_its_statistics() -> None:
    model, x, there = method_of("cpc").model.train(), rows(), [0, 1, 2, 3, 5]
    found = sequences(model, batch_of(x, x.flip(1)), range(1))
    again = method_of("cpc").model.train()
    maps = again.encoder.modalities["acc"].maps(SPEC.split(x)["acc"][there], again.encoder.modalities["acc"].stages[-1:])[0]
    torch.testing.assert_close(found["acc/sequence"][there], maps.values.mT)
    for name, value in model.encoder.modalities["acc"].state_dict().items():
        torch.testing.assert_close(value, again.encoder.modalities["acc"].state_dict()[name])


def test_both_views_pass_as_one_batch() -> None:
    model, (one, two) = method_of("cpc").model.train(), (rows(), rows(1))
    found = sequences(model, batch_of(one, two), range(2))
    assert [tuple(part.shape) for part in found.blocks("acc/sequence")] == [(B, 12, 6)] * 2
    assert found.shown.samples.tolist() == INDICES.repeat(2).tolist()
    maps = method_of("cpc").model.train().encoder.modalities["air"]
    kept = torch.cat([SPEC.split(x)["air"][[0, 2, 3, 4, 5]] for x in (one, two)])
    expected = maps.maps(kept, maps.stages[-1:])[0].values.mT
    torch.testing.assert_close(found.blocks("air/sequence")[1][[0, 2, 3, 4, 5]], expected[5:])


def test_steps_that_are_hidden_stay_valid_and_are_told_by_their_neighbours() -> None:
    encoder = build_encoder("tcn", {"hidden": 6, "depth": 2, "features": 8}, ACC)
    x, hidden = SPEC.split(rows())["acc"][:2].clone(), torch.zeros(2, 24, dtype=torch.bool)
    hidden[0, 5:9] = True
    entry, last = encoder.maps(x, ["entry", encoder.stages[-1]], hidden=hidden)
    plain, whole = encoder.maps(x, ["entry", encoder.stages[-1]])
    assert not entry.values[0, :, 5:9].any()
    torch.testing.assert_close(entry.values.masked_fill(hidden.unsqueeze(1), 0), plain.values.masked_fill(hidden.unsqueeze(1), 0))
    assert torch.equal(last.valid, whole.valid)
    torch.testing.assert_close(last.values[1], whole.values[1])
    assert last.values[0, :, 5:9].any()
    x[0, :, 5:9] += 100  # which nobody sees
    torch.testing.assert_close(encoder.maps(x, encoder.stages[-1:], hidden=hidden)[0].values, last.values)


def test_where_a_window_is_cut_is_one_instant_of_all_modalities() -> None:
    found = [last_known(0, "x", step, {"acc": 13, "air": 4}) for step in range(200)]
    assert {at["acc"] for at in found} == set(range(12))
    assert {at["air"] for at in found} == set(range(3))
    assert all(abs(at["acc"] / 12 - at["air"] / 3) <= 1 / 3 for at in found)
    assert found[0] == last_known(0, "x", 0, {"acc": 13, "air": 4})


def cpc_by_loops(method: Any, outputs: Outputs, name: str) -> tuple[float, float]:
    """The loss and how often the own future is the nearest, window by window."""
    at = last_known(7, "cpc", 5, method.places)[name]
    latents = outputs[f"{name}/further" if name in method.latents else f"{name}/sequence"]
    last, valid = outputs[f"{name}/sequence"], outputs[f"{name}/valid"]
    predictor, width = method.predictors[f"of_{name}"], latents.shape[2]
    steps = predictor.maps.out_features // width
    predicted, future, there = np.zeros((B, steps, width)), np.zeros((B, steps, width)), np.zeros((B, steps), dtype=bool)
    for row in range(B):
        past = [place for place in range(at + 1) if valid[row, place]]
        if not past:
            continue
        context = last[row, past[-1]] if name in method.latents else predictor.gru.gru(last[row, past].unsqueeze(0))[0][0, -1]
        for k in range(steps):
            predicted[row, k] = wide(predictor.maps.weight[k * width : (k + 1) * width]) @ wide(context)
            if at + 1 + k < valid.shape[1] and valid[row, at + 1 + k]:
                future[row, k], there[row, k] = wide(latents[row, at + 1 + k]), True
    apart, hits = apart_of(), []
    for k in range(steps):
        for row in range(B):
            others = [other for other in range(B) if apart[row, other] and there[other, k]]
            if there[row, k] and others:
                hits.append(predicted[row, k] @ future[row, k] > max(predicted[row, k] @ future[other, k] for other in others))
    return slow.cpc(predicted, future, there, apart, 1.0), slow.mean(hits)


@pytest.mark.parametrize("each", list(EACH))
def test_cpc_equals_loops_over_what_the_networks_say(each: str) -> None:
    method = method_of("cpc", each, steps=4, hidden=5)
    batch = batch_of(rows())
    outputs = method.outputs(batch)
    found = method.loss(outputs, batch, 5)
    expected = [cpc_by_loops(method, outputs, name) for name in ("acc", "air")]
    assert found["loss"].item() == pytest.approx(slow.mean(loss for loss, _ in expected), rel=1e-4)
    assert found["accuracy"].item() == pytest.approx(slow.mean(share for _, share in expected))


def test_predictions_that_are_right_are_found() -> None:
    future = torch.eye(4).unsqueeze(1)
    relation, everywhere = method_of("cpc").windows.of(torch.tensor([0, 4, 8, 14])), torch.ones(4, 1, dtype=torch.bool)
    assert share_found(future, future, relation, everywhere) == 1
    assert share_found(future.roll(1, 0), future, relation, everywhere) == 0
    assert share_found(future, future, relation, ~everywhere) == 0


def test_a_modality_that_one_sample_alone_shows_is_left_out_of_the_mean() -> None:
    method, x = method_of("cpc", steps=4), SPEC.split(rows())
    air = x["air"].clone()
    air[1:] = float("nan")
    batch = batch_of(SPEC.join({"acc": x["acc"], "air": air}).index_select(0, torch.tensor([0, 1, 2, 3, 0, 5])))
    outputs = method.outputs(batch)
    assert shown_by(outputs, ["acc", "air"]) == ["acc", "air"]
    method.eval()
    lone = batch_of(SPEC.without(rows(), ["air"])[[0, 1, 2, 3, 5, 5]])
    outputs = method.outputs(lone)
    assert shown_by(outputs, ["acc", "air"]) == ["acc"]
    loss = method.loss(outputs, lone, 5)["loss"]
    assert math.isfinite(loss.item())
    loss.backward()
    assert all(p.grad is None for p in method.encoder.modalities["air"].parameters())


REFUSED = [
    ({"spec": SeriesSpec(1, 4, 50.0, (0.0,), (1.0,)), "each": "series_cnn"}, "cpc predicts places of a window, and series has 1"),
    ({"steps": 0}, "cpc: steps and hidden must be at least 1, got 0"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_what_cannot_be_predicted_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method_of("cpc", **given)


def test_a_projector_that_would_stay_untrained_is_refused() -> None:
    encoder = build_encoder("fused", {"each": EACH["series_cnn"]}, SPEC)
    with pytest.raises(ConfigError, match=r"set projector\.layers=0"):
        METHODS.build("cpc", Model(encoder, torch.nn.Linear(encoder.dim, 4)), RunContext(N, B, 4, 40, 0), settings={})


def test_an_encoder_that_says_nothing_of_steps_is_refused() -> None:
    class Flat(torch.nn.Module):
        dim, input = 24, ACC

        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1)

    with pytest.raises(ConfigError, match="looks at single steps, of which the encoder of series"):
        METHODS.build("cpc", Model(Flat()), RunContext(N, B, 4, 40, 0), settings={})


def test_maps_of_nobody_are_empty() -> None:
    found = sequences(method_of("cpc").model, batch_of(SPEC.without(rows()[[0, 1, 2, 3]], ["air"])), range(1))
    assert found["air/sequence"].shape == (4, 4, 6)
    assert not found["air/valid"].any()
