"""Full context embeddings of matching networks: features that know the support set they are compared in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError

Order = Literal["canonical", "given"]
_CELLS = ("forwards", "backwards", "readout")
_STEPS = "steps"


def full_context(
    support: Tensor, query: Tensor, weights: Mapping[str, Tensor], *, steps: int | None = None, order: Order = "canonical"
) -> tuple[Tensor, Tensor]:
    """Support and query features in the context of the whole support set, (E, S, D) and (E, Q, D) of the same shapes.

    * g, of the support: s_i plus the states of two LSTMs that read the support rows forwards and backwards;
    * f, of a query: h_0 = q, c_0 = 0, then `steps` times h = LSTM(q, [h, r], c) + q with the read-out
      r = sum_i softmax_i(<h, g_i>) g_i.

    Paper: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, 2016, arXiv 1606.04080 (appendix A)
    Departures: the paper's g depends on the order of the support rows, which means nothing. `canonical` reads them by ascending
    <s_i, v>, v_j = cos(j): a function of the set, whatever the order and the names of the ways (rows that differ and tie
    have the order that they are given in). `given` is the paper's form. How the read-out starts is not in the paper; h_0 and
    c_0 are those of public code.

    Args:
        support: (E, S, D) support features.
        query: (E, Q, D) query features.
        weights: those of a `FullContext`; every cell has `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` as `torch.nn.LSTMCell` has:
            `forwards` and `backwards` (4D, D), `readout` (4D, 2D) of the query and r, then (4D, D) of h. `steps` is a whole number.
        steps: read-outs; 0 stands for one for each support row, as some public code does; None takes `weights["steps"]`.
        order: in which order the support rows are read.

    Raises:
        ConfigError: steps below 0, or an unknown order.
        DataError: a weight is missing, unknown or of another width.
    """
    _check(weights, support.shape[-1], steps is None)
    found = int(weights[_STEPS]) if steps is None else steps
    _check_settings(found, order)
    w = {name: value.to(support) for name, value in weights.items() if name != _STEPS}
    context = support + _in_order(support, w) if order == "given" else support + _in_canonical_order(support, w)
    return context, _read_out(query, context, w, found or support.shape[1])


class FullContext(nn.Module):
    """The weights of `full_context` as a module; (E, S, D), (E, Q, D) -> both in context.

    Build it under keyed initialisation, as encoders are. The number of steps is part of its state, so that whoever is given its
    weights reads out as it was trained. Weights of `torch.nn.LSTM` fit: `weight_ih_l0` is `forwards.weight_ih`,
    `weight_ih_l0_reverse` is `backwards.weight_ih`.

    Paper: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, 2016, arXiv 1606.04080

    Args:
        dim: D.
        steps: read-outs; 0 stands for one for each support row.
        order: in which order the support rows are read.

    Raises:
        ConfigError: dim below 1, steps below 0, or an unknown order.
    """

    steps: Tensor

    def __init__(self, dim: int, *, steps: int = 5, order: Order = "canonical") -> None:
        super().__init__()
        if dim < 1:
            raise ConfigError(f"full context: dim must be at least 1, got {dim}")
        _check_settings(steps, order)
        self.order = order
        self.forwards = nn.LSTMCell(dim, dim)
        self.backwards = nn.LSTMCell(dim, dim)
        self.readout = nn.LSTMCell(2 * dim, dim)
        self.register_buffer(_STEPS, torch.tensor(steps))

    def forward(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Support and query features in context."""
        return full_context(support, query, self.state_dict(keep_vars=True), order=self.order)


def _in_canonical_order(support: Tensor, w: dict[str, Tensor]) -> Tensor:
    """`_in_order` of the sorted rows, each state back in its row's place."""
    # in double precision, so that neither autocast nor the order of a sum decides which row is first
    wide = support.detach().double()
    direction = torch.arange(1, wide.shape[-1] + 1, dtype=wide.dtype, device=wide.device).cos()
    rows = (wide @ direction).argsort(dim=1, stable=True)
    states = _in_order(support.gather(1, rows.unsqueeze(-1).expand_as(support)), w)
    return states.gather(1, rows.argsort(dim=1).unsqueeze(-1).expand_as(states))


def _in_order(rows: Tensor, w: dict[str, Tensor]) -> Tensor:
    """Sum of the states of both LSTMs at each row, (E, S, D) -> (E, S, D)."""
    inward, recurrent, bias_in, bias_out = (
        torch.stack([w[f"{cell}.{name}"] for cell in _CELLS[:2]]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    # both directions side by side in the first dimension: half as many small operations
    both = torch.stack([rows, rows.flip(1)])
    drive = both @ inward.mT.unsqueeze(1) + (bias_in + bias_out)[:, None, None]
    hidden = memory = both.new_zeros(both[:, :, 0].shape)
    states = []
    for part in drive.unbind(2):
        hidden, memory = _cell(part + hidden @ recurrent.mT, memory)
        states.append(hidden)
    forwards, backwards = torch.stack(states, 2).unbind(0)
    return forwards + backwards.flip(1)


def _read_out(query: Tensor, context: Tensor, w: dict[str, Tensor], steps: int) -> Tensor:
    """f: queries after `steps` looks at the support set, (E, Q, D)."""
    own, read = w["readout.weight_ih"].split(query.shape[-1], dim=1)
    drive = nn.functional.linear(query, own, w["readout.bias_ih"] + w["readout.bias_hh"])
    # W r = softmax(...) (W g): the S rows of g pass the weights once, in place of Q read-outs at every step
    values = context @ read.mT
    hidden, memory = query, torch.zeros_like(query)
    for _ in range(steps):
        attention = (hidden @ context.mT).softmax(-1)
        hidden, memory = _cell(drive + attention @ values + hidden @ w["readout.weight_hh"].mT, memory)
        hidden = hidden + query
    return hidden


def _cell(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """State and memory of an LSTM from its four gates before their nonlinearities, in torch's order."""
    enter, keep, new, out = gates.chunk(4, dim=-1)
    memory = keep.sigmoid() * memory + enter.sigmoid() * new.tanh()
    return out.sigmoid() * memory.tanh(), memory


def _check_settings(steps: int, order: str) -> None:
    if steps < 0:
        raise ConfigError(f"full context: steps must be at least 0 (one for each support row), got {steps}")
    if order not in ("canonical", "given"):
        raise ConfigError(f"full context: unknown order {order!r}: use canonical or given")


def _check(weights: Mapping[str, Tensor], dim: int, needs_steps: bool) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for cell in _CELLS:
        shapes[f"{cell}.weight_ih"] = (4 * dim, 2 * dim if cell == "readout" else dim)
        shapes[f"{cell}.weight_hh"] = (4 * dim, dim)
        shapes[f"{cell}.bias_ih"] = shapes[f"{cell}.bias_hh"] = (4 * dim,)
    missing = [name for name in [*shapes, *[_STEPS] * needs_steps] if name not in weights]
    unknown = [name for name in weights if name not in shapes and name != _STEPS]
    if missing or unknown:
        wrong = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise DataError(f"the full-context network {' and '.join(wrong)}: give the weights of a FullContext")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise DataError(
                f"the full-context network does not fit features {dim} wide: {name} has shape {tuple(weights[name].shape)}, expected "
                f"{shape}: use the features that it was trained on"
            )
