"""The parts of `kinshot.orders` for type checkers, written by `make api`."""

from kinshot.datasets.orders.balanced import balanced as balanced
from kinshot.datasets.orders.classes import classes as classes
from kinshot.datasets.orders.consecutive import consecutive as consecutive
from kinshot.datasets.orders.hierarchical import hierarchical as hierarchical
from kinshot.datasets.orders.one_per_recording import one_per_recording as one_per_recording
from kinshot.datasets.orders.shuffled import shuffled as shuffled
from kinshot.datasets.orders.together import together as together
from kinshot.datasets.orders.units import units as units

__all__ = [
    "balanced",
    "classes",
    "consecutive",
    "hierarchical",
    "one_per_recording",
    "shuffled",
    "together",
    "units",
]
