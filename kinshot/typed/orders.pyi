"""The parts of `kinshot.orders` for type checkers, written by `make api`."""

from kinshot.datasets.orders.classes import classes as classes
from kinshot.datasets.orders.shuffled import shuffled as shuffled

__all__ = [
    "classes",
    "shuffled",
]
