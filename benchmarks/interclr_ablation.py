"""The three findings of the InterCLR paper, one setting at a time: labels, negatives, margin; Omniglot, three seeds, eight arms.

    python -m benchmarks.interclr_ablation --omniglot data/omniglot --out runs/interclr_ablation --json docs/results/interclr_ablation.json

All arms have equal epochs, two and a half CPU minutes or so each; stopped, the command goes on. Every arm differs from the first one,
online labels, semi-hard negatives and a margin of -0.5 as released, in one setting. Measured are classes that training never saw.
"""

from __future__ import annotations

import sys

from benchmarks.interclr_vs_moco import BARE, EXAM, INTERCLR
from benchmarks.paired_arms import Arm, Comparison

BASE = (*BARE, *INTERCLR, "method.clusters=1028", "method.warmup_epochs=2", "train.epochs=4", "views.small_epochs=2")
ONE = "released"
SETTINGS = {
    ONE: ("online labels, semi-hard negatives, margin -0.5", ()),
    "offline": ("offline labels", ("method.labels=offline",)),
    "hard": ("hard negatives", ("method.sampler=hard",)),
    "random": ("random negatives", ("method.sampler=random",)),
    "semi_easy": ("semi-easy negatives", ("method.sampler=semi_easy",)),
    "margin_-0.75": ("margin -0.75", ("method.margin_value=-0.75",)),
    "margin_0": ("margin 0", ("method.margin_value=0.0",)),
    "margin_0.25": ("margin 0.25", ("method.margin_value=0.25",)),
}
ARMS = {name: Arm(label, name, "omniglot_simclr", (*BASE, *own), "omniglot", EXAM) for name, (label, own) in SETTINGS.items()}
PAIRS = [
    (ONE, "offline", "online minus offline labels, paired"),
    (ONE, "hard", "semi-hard minus hard negatives, paired"),
    (ONE, "random", "semi-hard minus random negatives, paired"),
    (ONE, "semi_easy", "semi-hard minus semi-easy negatives, paired"),
    (ONE, "margin_-0.75", "margin -0.5 minus -0.75, paired"),
    (ONE, "margin_0", "margin -0.5 minus 0, paired"),
    (ONE, "margin_0.25", "margin -0.5 minus 0.25, paired"),
]
COMPARISON = Comparison(
    "interclr_ablation",
    __doc__.partition("\n")[0],
    {"omniglot": "omniglot-py or images_background"},
    ARMS,
    PAIRS,
    [
        "paper: online labels end better than offline ones, semi-hard negatives are more reliable than hard ones, a negative margin suits",
        "offline labels are those of a clustering anew before every epoch, which costs time that online labels do not",
    ],
)

if __name__ == "__main__":
    sys.exit(COMPARISON.run())
