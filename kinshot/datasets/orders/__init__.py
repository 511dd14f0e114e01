"""Orders, which say what samples make up each batch of an epoch, one file each; `ORDERS` finds them by name without importing them.

An order is made of `(labels, batch_size, steps, seed)`: the class of each sample, int64 (N,) with -1 where it has none, so that a source
without labels is all -1; the samples of a batch; and the batches of an epoch. One that is registered with `takes="clock"` is given the
source's clock in place of labels: (time (N,), recording (N,)), or None where the source has none, which it refuses. One with
`takes="attributes"` is given `Marks`: the labels, and the source's further labels by name, of which its settings name those that it needs.
It is then a pure function of the epoch, picklable, which gives the numbers of the samples: int64 (steps, batch_size). What it leaves out
it may say, a line each, in an attribute `notes`.
"""

from kinshot.core.registry import Registry

ORDERS = Registry("order", "kinshot.datasets.orders")
