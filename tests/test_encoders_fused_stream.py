"""Fused encoders as streams: modalities at rates of their own, cut anywhere, give what the whole gives, of those that measured anything."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.streaming import stream_of
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec

SPEC = BundleSpec(("acc", "air"), (SeriesSpec.unmeasured((3, 40), 50.0), SeriesSpec.unmeasured((1, 8), 10.0)))
TCN, GRU = "tcn:causal=true:hidden=8:depth=2:features=12", "conv_gru:widths=[8]:kernels=[3]:strides=[2]:hidden=12"
NAN = float("nan")


def build(fusion: str) -> Any:
    return build_encoder("fused", {"each": TCN, "other": [f"air={GRU}"], "fusion": fusion}, SPEC).eval()


def windows(seed: int = 0) -> dict[str, Tensor]:
    """One whole, one whose air comes late and at a step that has no place alone, one of acc alone, one of air alone, one of nothing."""
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(5, *part.shape, generator=generator) for name, part in SPEC.modalities.items()}
    x["air"][1] = NAN
    x["air"][1, :, 5] = 2.0
    x["acc"][1, :, 3:9] = NAN
    x["air"][2] = NAN
    x["acc"][3] = NAN
    x["acc"][4], x["air"][4] = NAN, NAN
    return x


def cuts_of(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size), max_size=4).map(lambda cuts: [0, *sorted(cuts), size])


@pytest.mark.parametrize("fusion", ["concat", "mean", "attention"])
@settings(max_examples=5, deadline=None)
@given(acc=cuts_of(40), air=cuts_of(8), order=st.randoms(use_true_random=False), seed=st.integers(0, 9))
def test_any_chunks_in_any_order_give_what_the_whole_gives(fusion: str, acc: list[int], air: list[int], order: Any, seed: int) -> None:
    encoder, x = build(fusion), windows(seed)
    turns = [("acc", cut) for cut in pairwise(acc)] + [("air", cut) for cut in pairwise(air)]
    order.shuffle(turns)
    spans = {name: iter(sorted(cut for which, cut in turns if which == name)) for name in ("acc", "air")}
    state, came = encoder.start(5), {"acc": 0, "air": 0}
    with torch.no_grad():
        for name, _ in turns:
            start, stop = next(spans[name])
            if start == stop:
                continue
            streamed, state = encoder.step({name: x[name][:, :, start:stop]}, state)
            came[name] = stop
            so_far = SPEC.join({one: torch.where(torch.arange(x[one].shape[2]) < end, x[one], NAN) for one, end in came.items()})
            some = ~so_far.isnan().all(dim=1)
            assert streamed.feature[~some].abs().sum() == 0
            if some.any():
                torch.testing.assert_close(streamed.feature[some], encoder(so_far[some]), rtol=0, atol=1e-5)
    assert some.tolist() == [True, True, True, True, False]
    assert {name: part.seen for name, part in state.parts.items()} == {"acc": 40, "air": 8}


def test_both_modalities_in_one_call_go_on_by_their_own_steps() -> None:
    encoder, x = build("concat"), windows()
    state = encoder.start(5)
    with torch.no_grad():
        for part in range(8):
            chunks = {"acc": x["acc"][:, :, 5 * part : 5 * part + 5], "air": x["air"][:, :, part : part + 1]}
            streamed, state = encoder.step(chunks, state)
        torch.testing.assert_close(streamed.feature[:4], encoder(SPEC.join(x)[:4]), rtol=0, atol=1e-5)
    assert set(streamed.parts) == {"acc", "air"}


def test_a_state_is_kept_and_gone_on_from_twice() -> None:
    encoder, x = build("mean"), windows()
    with torch.no_grad():
        _, state = encoder.step({"acc": x["acc"][:, :, :9]}, encoder.start(5))
        one, _ = encoder.step({"air": x["air"]}, state)
        encoder.step({"acc": x["acc"][:, :, 9:]}, state)
        again, _ = encoder.step({"air": x["air"]}, state)
    assert torch.equal(one.feature, again.feature)


def test_what_does_not_fit_is_told() -> None:
    encoder = build("concat")
    assert stream_of("fused", encoder) is encoder
    with pytest.raises(DataError, match=r"no modality 'ac': did you mean 'acc'"):
        encoder.step({"ac": torch.zeros(1, 3, 5)}, encoder.start(1))
    with pytest.raises(DataError, match="got none: give those of one at least"):
        encoder.step({}, encoder.start(1))
    with pytest.raises(DataError, match=r"a chunk of 1 streams, 3 channels"):
        encoder.step({"acc": torch.zeros(1, 2, 5)}, encoder.start(1))


def test_one_modality_that_looks_ahead_keeps_all_from_streaming() -> None:
    ahead = build_encoder("fused", {"each": TCN, "other": ["air=series_cnn:widths=[8]:kernels=[3]:strides=[1]"]}, SPEC)
    assert not ahead.causal
    for call in (lambda: stream_of("fused", ahead), lambda: ahead.start(1)):
        with pytest.raises(ConfigError, match=r"encoder fused cannot stream: its encoder of air needs a whole window; .*each=conv_gru"):
            call()
