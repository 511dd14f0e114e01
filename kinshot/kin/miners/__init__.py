"""Miners: which pairs of a relation are worth comparing, by how similar they are at the moment; one file each.

A miner is a pure function `(similarity (A, R), relation, *, settings) -> relation`. It leaves pairs out and adds none; weights stay as
they are. Similarities are larger for what is more alike, and no gradient flows through them.
"""

from kinshot.core.registry import Registry

MINERS = Registry("miner", "kinshot.kin.miners")
