"""Settings of methods that the contract tests try beside the defaults."""

from __future__ import annotations

from typing import Any

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cmc": [{"core": "air"}],
    "cocoa": [{"form": "ratio"}],
    "focal": [{"length": 2, "distance": "unit", "margin": 0.5, "spacing": 2}],
    "masked_vicreg": [{"hide": 0.0}],
    "vicreg_x": [{"intra": 0.5}],
    "barlow_x": [{"intra": 0.5, "core": "acc"}],
    "meow": [{"clusters": ()}, {"clusters": (5,), "recluster": 3, "remask": 0, "weighted": False}, {"density": "product", "restarts": 2}],
    "dino": [{"frozen_epochs": 0, "prototypes": 4}],
    "simclr": [{"views": 3}],
    "dcl": [{"sigma": 0.5}],
    "nnclr": [{"queue": 16, "hidden": 5}],
    "moco": [{"symmetric": True, "queue": 16}, {"bn_splits": 2}],
    "interclr": [
        {"intra": "simclr"},
        {"share_neck": False},
        {"share_neck": False, "intra": "simclr", "exclude_self": True},
        {"labels": "offline"},
        {"positives": "neighbors", "neighbors": 3},
        {"sampler": "hard", "clusters": 4},
        {"sampler": "random", "margin": "arc"},
        {"sampler": "semi_easy", "margin": "none", "min_cluster": 6, "clusters": 4},
        {"bank_momentum": 0.5, "centroid_interval": 1, "min_cluster": 6, "clusters": 6, "bank_fraction": 0.5},
        {"intra": "npid"},
        {"intra": "npid", "bank_negatives": 5, "bank_momentum": 0.5, "warmup_epochs": 1, "recluster_after_warmup": True},
        {"intra": "byol"},
        {"intra": "byol", "share_neck": False, "hidden": 5, "key_momentum": 0.9, "bn_splits": 2},
    ],
    "pseudo_classes": [
        {"warmup_epochs": 0, "every": 1, "neighbors": 3, "per_class": 2, "doubt": 1.4},
        {"warmup_epochs": 1, "per_class": 1, "views": 3},
    ],
    "psco": [{"queue": 16, "shots": 3, "hidden": 5}],
    "mae": [{"hide": 0.4, "width": 32, "depth": 1, "normalize": False}],
    "npid": [{"negatives": 3, "bank_momentum": 1.0}],
    "swav": [{"queue": None}, {"queue": 16, "queue_from": 0, "frozen_epochs": 0, "prototypes": 4}],
    "tnc": [{"others": True, "spread": 1.0, "length": 4, "spacing": 2}],
    "ts2vec": [{"mask": 0.0, "alpha": 1.0}, {"finest": 2, "alpha": 0.25}],
    "ts_tcc": [{"hidden": 12, "layers": 1, "temporal": 0.0}],
    "base_classes": [{"others": "ignore"}],
    "pfenet": [{"base": True, "width": 8}, {"base": True, "others": "ignore", "aux": 0.0, "scales": (0.5,), "width": 8}],
    "panet": [{"alignment": 0.0, "background": "panet"}, {"pooling": "downsample", "others": "ignore", "ways": 1, "queries": 3}],
    "dual_prototype": [
        {"class_specific": 0.0, "class_agnostic": 0.0},
        {"dictionary": "per_class", "length": 2, "positives": "momentum+dictionary", "keys": "grid"},
        {"class_agnostic": 0.0, "length": 3, "key_momentum": 0.5, "warmup": 2},
        {"class_specific": 0.0, "alignment": 1.0, "keys": "global", "key_other_ways": "drop"},
    ],
}
