"""What each switch of few-shot-aware pretraining brings on Omniglot: all of them, each left out or exchanged; five CPU minutes a run.

    python -m benchmarks.omniglot_switches --omniglot data/omniglot --out runs/omniglot_switches --json docs/results/omniglot_switches.json

All arms cost about the same: two clean epochs, which show every image once, count as one of the others. Stopped, the command goes on.
Every arm differs in one switch from the first one, `omniglot_five_minutes`: views turned by quarters, pseudo-classes, images clustered in
all four positions, members of a class side by side, images as they are at the end. `--split val` is for choosing.
"""

from __future__ import annotations

import sys

from benchmarks.label_free import Exam
from benchmarks.paired_arms import Arm, Comparison

EXAM = Exam(ks=(20,), bank_share=0.5, shots=(1, 5), ways=(5, 20), queries=15, feature="projector")
ALL = "all"
WARPED = ("train.epochs=8",)
"""As many epochs as cost what the recipe's nine do, where no two of them are clean."""
SIMCLR = ("method=simclr", "method.temperature=0.1", *WARPED)
SETTINGS = {
    ALL: ("all switches", ()),
    "upright": ("views upright", ("views.turns=false", "method.turned=false")),
    "one_position": ("clustered upright alone", ("method.turned=false",)),
    "apart": ("batches shuffled", ("method.per_class=1",)),
    "warped": ("warped to the end", ("method.clean_from=0", *WARPED)),
    "simclr": ("no pseudo-classes", SIMCLR),
    "plain": ("SimCLR, views upright", (*SIMCLR, "views.turns=false")),
    "psco": ("PsCo in place of pseudo-classes", ("method=psco", "method.temperature=0.1", *WARPED)),
}
ARMS = {
    name: Arm(label, name, "omniglot_five_minutes", ("monitor.tensorboard=false", *own), "omniglot", EXAM)
    for name, (label, own) in SETTINGS.items()
}
COMPARISON = Comparison(
    "omniglot_switches",
    __doc__.partition("\n")[0],
    {"omniglot": "omniglot-py or images_background"},
    ARMS,
    [(ALL, name, f"all switches minus {label}, paired") for name, (label, _) in SETTINGS.items() if name != ALL],
    ["no arm sees a label; features are projector outputs, one forward pass upright"],
)

if __name__ == "__main__":
    sys.exit(COMPARISON.run())
