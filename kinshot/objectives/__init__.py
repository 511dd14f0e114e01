"""What it costs: losses of embeddings and of who is kin to whom, of labels, of two views, of a student and its teacher; one file each.

Every one is usable alone, as a pure function or a module. Those that take a relation or a teacher are the terms of a recipe, by the name
they are registered under; methods that know classes or views use the others. What a part is given beside its settings, it says where
it is registered, `takes=`:

* `relation`: a function `(z (A, D), relation, refs=None, *, settings)` of anchors, of who is kin to them (`kinshot.kin.relation`),
  and of references, which are the anchors themselves where there are none; or, where it learns, remembers or draws something, a class
  built as `(dim, classes, context, *, settings)` and called with `(z, relation, refs=None, y=None, step=0)`, y the anchors' classes;
* `proxies`: a class built as `(dim, classes, context, *, settings)` that learns rows of classes, called with `(z (B, D), y int64 (B,),
  step=0)`, -1 where a class is unknown;
* `classes`: a function `(logits (N, K), y int64 (N,), *, settings)` of a classifier's outputs and the rows' classes, -1 where unknown;
* `views`: a function `(first (B, D), second (B, D), ids=None, *, settings)` of two views of the same samples, with gradient into both,
  and of which sample each row shows;
* `teacher`: a function `(student (B, ...), teacher (B, ...), *, settings)` of two networks' outputs for the same samples, the
  teacher's without gradient; or, where it learns or remembers something, a class built as `(student shape, teacher shape, context, *,
  settings)` and called with `(student, teacher, indices, step)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.core.registry import Registry

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.objectives import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


OBJECTIVES = Registry("objective", "kinshot.objectives", "kinshot.objectives.distillation", "kinshot.objectives.proxies")
face(__name__, OBJECTIVES)


def taking(what: str) -> list[str]:
    """Names of the objectives that take `what`, for example "relation" or "teacher", sorted."""
    return [entry.name for entry in OBJECTIVES.entries.values() if entry.facts.get("takes") == what]
