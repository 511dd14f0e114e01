"""Which figure a run is validated by: the one place where its kinds are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kinshot.runs.validation import Validator

if TYPE_CHECKING:
    from kinshot.runs.job import Job


def validator_of(job: Job, out: Path) -> Validator | None:
    """What measures a run on validation classes; None where its recipe has no validation."""
    if not job.recipe.validation.split:
        return None
    if job.data.beside:
        from kinshot.runs.dense_validation import DenseValidator

        return DenseValidator(job, out)
    from kinshot.runs.class_validation import ClassValidator

    return ClassValidator(job, out)
