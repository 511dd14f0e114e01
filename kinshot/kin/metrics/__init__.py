"""Metrics of how well features bring kin together, one file each; `METRICS` finds them by name, `kin.measuring` measures several at once.

A metric over a ranking is a function `(found: Retrieved, *, settings) -> (q,)`, one figure in [0, 1] for each query; it says with `depth`
how many neighbours it looks at: its setting `k`, as many as the query has `kin`, or `all`. One that looks at how relevant kin are says
`graded=True`, and `Retrieved` then has gains. Queries without kin never reach it. A metric over features is a function
`(features (N, D), labels (N,), *, settings) -> float`; its `depth` is `none`. How well distances tell pairs apart: `kin.verification`.
"""

from kinshot.core.registry import Registry

METRICS = Registry("metric", "kinshot.kin.metrics")
