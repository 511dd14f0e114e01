"""Who is kin to whom: relations over a batch, a queue or a bank, and graphs over a whole data set (`graph`, free of torch).

`KINS` are the sources of kinship that a recipe can name (`kins`, one file each). The constructors are loaded on first use:
`kinshot.kin.labels`. `kinshot.kin.graph` is the room of graphs; the constructor that makes a relation of one is
`kinshot.kin.constructors.graph`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinshot.core.lazy import Declared, face
from kinshot.core.registry import Registry

if TYPE_CHECKING:
    from kinshot.kin import graph as graph
    from kinshot.kin.constructors import across_views as across_views
    from kinshot.kin.constructors import clusterings as clusterings
    from kinshot.kin.constructors import grouped as grouped
    from kinshot.kin.constructors import labels as labels
    from kinshot.kin.constructors import listed as listed
    from kinshot.kin.constructors import modalities as modalities
    from kinshot.kin.constructors import multilabels as multilabels
    from kinshot.kin.constructors import negatives as negatives
    from kinshot.kin.constructors import pairs as pairs
    from kinshot.kin.constructors import teacher as teacher
    from kinshot.kin.constructors import time as time
    from kinshot.kin.constructors import views as views
    from kinshot.kin.constructors import weights as weights
    from kinshot.kin.markov import markov_clusters as markov_clusters
    from kinshot.kin.recordings import across_modalities as across_modalities
    from kinshot.kin.recordings import neighborhood as neighborhood
    from kinshot.kin.recordings import windows as windows

KINS = Registry("kin", "kinshot.kin.kins")
face(__name__, Declared(__name__, __file__))
