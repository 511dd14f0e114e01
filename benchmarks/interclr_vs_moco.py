"""InterCLR against MoCo v2 at equal epochs and at equal CPU time: Omniglot and Grocery Store, four CPU minutes a run, three seeds.

    python -m benchmarks.interclr_vs_moco --omniglot data/omniglot --grocery data/grocery --out runs/interclr_vs_moco \
        --json docs/results/interclr_vs_moco.json                                                               (stopped, it goes on)

InterCLR's epochs cost more than MoCo's: at equal epochs MoCo takes less time, at equal time it sees the images more often. Measured are
classes that training never saw: kNN and a linear probe between two halves of each, and episodes of one, two and five shots. Settings were
fixed before; `--split val` is for choosing them.
"""

from __future__ import annotations

import sys

from benchmarks.label_free import Exam
from benchmarks.paired_arms import Arm, Comparison

EXAM = Exam(ks=(20,), bank_share=0.5, shots=(1, 2, 5))
KEYS = ("method.queue=2048", "method.key_momentum=0.99", "method.temperature=0.1")
MOCO = ("method=moco", *KEYS)
INTERCLR = ("method=interclr", *KEYS, "method.exclude_self=true", "method.recluster_after_warmup=true")
BARE = ("monitor.tensorboard=false", "monitor.projector_points=0")
OMNIGLOT = ("omniglot_simclr", BARE, "omniglot", "Omniglot")
GROCERY = ("grocery_structure", ("graph=null", *BARE), "grocery", "Grocery Store")


def arm(of: tuple[str, tuple[str, ...], str, str], name: str, label: str, settings: tuple[str, ...], epochs: int, small: int) -> Arm:
    """An arm on a data set: `small` of its epochs see fewer pixels."""
    recipe, always, data, title = of
    courses = (f"train.epochs={epochs}", f"views.small_epochs={small}")
    return Arm(f"{title}: {label}", f"{data}/{name}", recipe, (*always, *settings, *courses), data, EXAM)


ARMS = {
    "omniglot_interclr": arm(OMNIGLOT, "interclr", "InterCLR", (*INTERCLR, "method.clusters=1028", "method.warmup_epochs=4"), 7, 4),
    "omniglot_moco": arm(OMNIGLOT, "moco", "MoCo v2, equal epochs", MOCO, 7, 4),
    "omniglot_moco_longer": arm(OMNIGLOT, "moco_longer", "MoCo v2, equal CPU time", MOCO, 8, 5),
    "grocery_interclr": arm(GROCERY, "interclr", "InterCLR", (*INTERCLR, "method.clusters=50", "method.warmup_epochs=20"), 40, 20),
    "grocery_moco": arm(GROCERY, "moco", "MoCo v2, equal epochs", MOCO, 40, 20),
    "grocery_moco_longer": arm(GROCERY, "moco_longer", "MoCo v2, equal CPU time", MOCO, 42, 21),
}
PAIRS = [
    (f"{data}_interclr", f"{data}_{other}", f"{title}: InterCLR minus MoCo v2, {equal}, paired")
    for data, title in (("omniglot", "Omniglot"), ("grocery", "Grocery Store"))
    for other, equal in (("moco", "equal epochs"), ("moco_longer", "equal CPU time"))
]
COMPARISON = Comparison(
    "interclr_vs_moco",
    __doc__.partition("\n")[0],
    {"omniglot": "omniglot-py or images_background", "grocery": "Grocery Store in its official layout"},
    ARMS,
    PAIRS,
    [
        "test classes were never seen in training; bank and queries are halves of each class, episodes are drawn from all of them",
        "the loss between images begins after a warm-up (ours), as pseudo-classes of a network that has learned nothing mean little",
        "clusters, temperature and warm-up follow omniglot_interclr, which chose them on validation classes; weights, negatives and "
        "margin are as released",
    ],
)

if __name__ == "__main__":
    sys.exit(COMPARISON.run())
