"""What a recipe may set of structure-inducing pretraining; free of torch, so that recipes are checked without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kinshot.learn.place import Place
from kinshot.recipes.terms import Choice, TermChoice


@dataclass(frozen=True)
class StructureSettings:
    """The structure term beside the method's own loss: `loss = (1 - weight) method + weight structure`.

    Args:
        weight: lambda, the share of the structure term, from 0 to 1; 0 leaves the method exactly as it is.
        loss: contrastive (margins on distances of drawn pairs), multi_similarity (cosines of all pairs of the batch), or triplet.
        features: what the term acts on, the encoder's output (backbone) or the projector's.
        anchor: which input of the batch's own samples it sees, the first augmented or masked view, or the clean sample.
        partner: the same for the drawn neighbors and strangers.
        positives: a linked node (edge), any within `hops` steps (hops), or where a random walk of `hops` steps ends (walk).
        negatives: strangers are any unlinked node, one of the same group (same_group), one beyond `hops` steps, or a listed one (explicit).
        hops: reach of positives=hops or walk, and of negatives=hops.
        per_anchor: neighbors, and strangers, drawn for each sample of the batch; 0 draws none and looks at the links inside the batch
            alone (multi_similarity, triplet), which costs next to nothing and needs a graph with many links.
        mask_hops: pairs within so many steps that are not linked are neither kin nor strangers (multi_similarity, triplet); 0 for none.
        normalize: scale embeddings to length 1 before distances (contrastive, triplet); margin_negative and margin must then be below 2.
        margin_positive: distance up to which a linked pair costs nothing (contrastive); mu+.
        margin_negative: distance from which an unlinked pair costs nothing (contrastive); mu-.
        margin: of triplet, how much farther than its kin an unlinked sample should lie, in units of the distance.
        scale_positive: w+ of multi_similarity.
        scale_negative: w- of multi_similarity.
        threshold: t of multi_similarity, the cosine around which pairs are weighed.
        mining: m of multi_similarity, the slack of its mining; 10 keeps every pair.
    """

    weight: float = 0.1
    loss: Literal["contrastive", "multi_similarity", "triplet"] = "contrastive"
    features: Literal["backbone", "projector"] = "backbone"
    anchor: Literal["view", "clean"] = "view"
    partner: Literal["clean", "view"] = "clean"
    positives: Literal["edge", "hops", "walk"] = "edge"
    negatives: Literal["any", "same_group", "hops", "explicit"] = "any"
    hops: int = 2
    per_anchor: int = 1
    mask_hops: int = 0
    normalize: bool = False
    margin_positive: float = 0.0
    margin_negative: float = 10.0
    margin: float = 0.2
    scale_positive: float = 2.0
    scale_negative: float = 40.0
    threshold: float = 0.5
    mining: float = 0.1


def check_structure(settings: StructureSettings) -> list[str]:
    """Every setting out of range, as messages that begin with its name."""
    s, problems = settings, []
    if not 0 <= s.weight <= 1:
        problems.append(f"structure.weight: expected a number from 0 to 1, got {s.weight}")
    for name, lowest in (("hops", 1), ("per_anchor", 0), ("mask_hops", 0), ("margin_positive", 0), ("margin_negative", 0)):
        if getattr(s, name) < lowest:
            problems.append(f"structure.{name}: expected at least {lowest}, got {getattr(s, name)}")
    if s.loss == "contrastive" and s.per_anchor == 0:
        problems.append("structure.per_anchor: contrastive compares drawn pairs and needs at least 1, got 0")
    for name in ("scale_positive", "scale_negative"):
        if not getattr(s, name) > 0:
            problems.append(f"structure.{name}: expected a number above 0, got {getattr(s, name)}")
    if s.loss == "contrastive" and s.normalize and s.margin_negative >= 2:
        problems.append(f"structure.margin_negative: unit vectors lie within 2, got {s.margin_negative}: set it below 2, for example 1")
    if not s.margin > 0:
        problems.append(f"structure.margin: expected a number above 0, got {s.margin}")
    if s.loss == "triplet" and s.normalize and s.margin >= 2:
        problems.append(f"structure.margin: unit vectors lie within 2, got {s.margin}: set it below 2, for example 0.2")
    if s.loss == "triplet" and s.margin_negative != StructureSettings.margin_negative:
        problems.append(f"structure.margin_negative: triplet has a margin of its own, got {s.margin_negative} here: set structure.margin")
    if s.loss == "contrastive" and s.margin_negative <= s.margin_positive:
        problems.append(f"structure.margin_negative: expected more than margin_positive ({s.margin_positive}), got {s.margin_negative}")
    return problems


def structure_terms(settings: StructureSettings) -> tuple[TermChoice, ...]:
    """The term that these settings are short for: none where its weight is 0, and then the method runs as if it were alone."""
    s = settings
    if s.weight == 0:
        return ()
    objectives: dict[str, Choice] = {
        "contrastive": Choice(
            "margin_contrastive",
            {"positive_margin": s.margin_positive, "negative_margin": s.margin_negative, "normalize": s.normalize},
        ),
        "multi_similarity": Choice(
            "multi_similarity",
            {
                "threshold": s.threshold,
                "mining_margin": s.mining,
                "positive_scale": s.scale_positive,
                "negative_scale": s.scale_negative,
            },
        ),
        # anchors at a time: a triplet loss looks at (anchors, batch, batch)
        "triplet": Choice("triplet", {"margin": s.margin, "normalize": s.normalize, "chunk": 64}),
    }
    drawn = {name: getattr(s, name) for name in ("anchor", "partner", "positives", "negatives", "hops", "per_anchor", "mask_hops")}
    kin = Choice("graph", {"of": "", "pairs": "drawn" if s.loss == "contrastive" else "batch", **drawn})
    place = Place(label="structure", on=s.features, weight=s.weight, gradients=True)
    return (TermChoice(objectives[s.loss], kin, place, key="structure", initial="init structure"),)
