"""Several fields in one feature: absent ones leave no trace in features, statistics or gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.fused_fields import Fused
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.tokens import TokenSpec

IMAGE, ROWS, TEXTS = PixelSpec.square(1, 16, (0.5,), (0.25,)), RowSpec(7, (0.0,) * 7, (1.0,) * 7), TokenSpec(12, "abcdef")


def fused() -> Fused:
    return Fused(
        {
            "photo": build_encoder("conv4", {"width": 4}, IMAGE),
            "motion": build_encoder("mlp", {"widths": [9, 5]}, ROWS),
            "words": build_encoder("text", {"width": 8}, TEXTS),
        }
    )


def samples(batch: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "photo": torch.randn(batch, 1, 16, 16, generator=generator),
        "motion": torch.randn(batch, 7, generator=generator),
        "words": torch.randint(3, 9, (batch, 12), generator=generator),
    }


PRESENT = {
    "photo": torch.tensor([True, False, True, True, False]),
    "motion": torch.tensor([True, True, False, True, True]),
    "words": torch.tensor([True, True, True, False, False]),
}


def test_joined_feature_against_its_formula_in_a_loop() -> None:
    network, x = fused().eval(), samples()
    with torch.no_grad():
        found = network(x, PRESENT)
        alone = {name: encoder(x[name]).double().numpy() for name, encoder in network.encoders.items()}
    for row in range(5):
        parts = []
        for name, dim in network.dims.items():
            z = alone[name][row]
            parts.append(z / np.sqrt((z**2).sum()) if PRESENT[name][row] else np.zeros(dim))
        joined = np.concatenate(parts)
        np.testing.assert_allclose(found[row].numpy(), joined / np.sqrt((joined**2).sum()), atol=1e-5)
    assert found.shape == (5, network.dim)
    assert network.input == {"photo": IMAGE, "motion": ROWS, "words": TEXTS}
    # samples 0 and 1 share motion and words, and have three fields and two
    cosines = [alone[name][0] @ alone[name][1] / np.prod(np.linalg.norm(alone[name][:2], axis=1)) for name in ("motion", "words")]
    assert float(found[0] @ found[1]) == pytest.approx(sum(cosines) / np.sqrt(3 * 2), abs=1e-5)


def test_what_absent_rows_hold_reaches_neither_features_nor_gradients_nor_statistics() -> None:
    network, x = fused().train(), samples()
    other, spoilt = copy.deepcopy(network), {name: value.clone() for name, value in x.items()}
    for name in ("photo", "motion"):
        spoilt[name][~PRESENT[name]] = float("nan")
    one, two = network(x, PRESENT), other(spoilt, PRESENT)
    assert torch.equal(one, two)
    assert two.isfinite().all()
    for result in (one, two):
        (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
    for (key, ours), (_, theirs) in zip(network.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), key
        assert theirs.grad.isfinite().all(), key
    for (key, ours), (_, theirs) in zip(network.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), key


@pytest.mark.parametrize("name", ["photo", "motion"])
def test_batch_statistics_are_those_of_the_present_rows_alone(name: str) -> None:
    network, x = fused().train(), samples()
    alone = copy.deepcopy(network.encoders[name])
    expected = alone(x[name][PRESENT[name]])
    found = network.features(x, PRESENT)[name]
    assert torch.equal(found[PRESENT[name]], expected)
    assert found[~PRESENT[name]].abs().max() == 0
    for (key, ours), (_, theirs) in zip(network.encoders[name].named_buffers(), alone.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), key


def test_features_given_with_anything_in_absent_rows_join_the_same() -> None:
    network, x = fused().eval(), samples()
    features = network.features(x, PRESENT)
    spoilt = {name: z.detach().masked_fill(~PRESENT[name].unsqueeze(1), float("nan")).requires_grad_() for name, z in features.items()}
    joined = network.join(spoilt, PRESENT)
    torch.testing.assert_close(joined, network(x, PRESENT))
    joined.sum().backward()
    for name, z in spoilt.items():
        assert z.grad[~PRESENT[name]].abs().max() == 0
        assert z.grad[PRESENT[name]].isfinite().all()


def test_a_field_that_nobody_has_does_not_run() -> None:
    network, x = fused().train(), samples()
    before = {key: value.clone() for key, value in network.encoders["motion"].state_dict().items()}
    del x["motion"]
    found = network(x)
    assert found.shape == (5, network.dim)
    start = network.dims["photo"]
    assert found[:, start : start + network.dims["motion"]].abs().max() == 0
    found.square().sum().backward()
    assert all(p.grad is None for p in network.encoders["motion"].parameters())
    assert all(torch.equal(before[key], value) for key, value in network.encoders["motion"].state_dict().items())
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))


def test_one_row_alone_in_having_a_field_is_normalised_by_running_statistics() -> None:
    network, x = fused().train(), samples()
    network(x)  # moves the running statistics
    before = {key: value.clone() for key, value in network.encoders["motion"].state_dict().items()}
    present = {"motion": torch.tensor([False, False, True, False, False])}
    found = network.features(x, present)["motion"]
    assert network.encoders["motion"].training
    assert all(torch.equal(before[key], value) for key, value in network.encoders["motion"].state_dict().items())
    torch.testing.assert_close(found[2:3], network.encoders["motion"].eval()(x["motion"][2:3]))


def test_in_evaluation_a_feature_does_not_depend_on_the_batch() -> None:
    network, x = fused().eval(), samples()
    whole = network(x, PRESENT)
    for row in range(5):
        one = network({name: value[row : row + 1] for name, value in x.items()}, {name: p[row : row + 1] for name, p in PRESENT.items()})
        torch.testing.assert_close(one, whole[row : row + 1], rtol=1e-4, atol=1e-5)


def test_a_sample_without_any_field_and_other_misuse_is_told() -> None:
    network, x = fused(), samples()
    nothing = {name: rows & (torch.arange(5) != 3) for name, rows in PRESENT.items()}
    with pytest.raises(DataError, match=r"samples \[3\] of the batch have none of photo, motion, words"):
        network(x, nothing)
    with pytest.raises(DataError, match="no encoder of field 'foto': did you mean 'photo'"):
        network({**x, "foto": x["photo"]})
    with pytest.raises(DataError, match="as many samples of every field"):
        network({**x, "motion": x["motion"][:3]})
    with pytest.raises(DataError, match="photo is said to be present and is not there"):
        network({"motion": x["motion"]}, {"photo": PRESENT["photo"]})
    with pytest.raises(DataError, match="must be bool"):
        network(x, {"photo": torch.ones(5)})
    with pytest.raises(DataError, match="no field"):
        network({})
    for names in ([], ["a b"], ["keys"]):
        with pytest.raises(ConfigError, match="letters, digits and _"):
            Fused(dict.fromkeys(names, build_encoder("mlp", {}, ROWS)))


def test_state_names_say_the_field() -> None:
    assert {key.split(".")[1] for key in fused().state_dict()} == {"photo", "motion", "words"}
