"""Miners: which pairs of a relation are worth comparing, by how similar they are at the moment; one file each.

A miner is a pure function `(similarity (A, R), relation, *, settings) -> relation`. It leaves pairs out and adds none; weights stay as
they are. Similarities are larger for what is more alike, and no gradient flows through them. One that draws takes `generator` beside
these, and one that must know how many numbers an embedding has, `dim`.
"""

from kinshot.core.registry import Registry

MINERS = Registry("miner", "kinshot.kin.miners")
