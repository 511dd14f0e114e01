"""SimCLR that goes on with pseudo-classes, found again and again as it learns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.datasets.loader import Order
from kinshot.datasets.orders.shuffled import shuffled
from kinshot.datasets.orders.together import together
from kinshot.kin import constructors as kin
from kinshot.kin.markov import check_markov, flow_clusters, mutual_links
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import unit
from kinshot.objectives.nt_xent import nt_xent
from kinshot.objectives.sup_con import sup_con
from kinshot.samples.batch import Batch
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec


@METHODS.register("pseudo_classes")
class PseudoClasses(Method):
    """First the views of an image attract each other, later all members of its pseudo-class, which are found anew every few epochs.

    Paper: Ji, Zou, Huang, Wu 2020, arXiv 1912.12178 (UFLST: progressive clustering and episodes of pseudo-classes)
    Paper: Khosla et al. 2020, arXiv 2004.11362 (SupCon); van Dongen 2000 (Markov clustering)

    A recipe of ours after the idea of UFLST: SimCLR until the warm-up ends; then clusters of the graph of mutual nearest neighbors,
    which nobody counts beforehand, are classes for SupCon, and members of one come into a batch together, as in an episode. Who has no
    mutual neighbor has its own views alone. Mining too early learns the errors of a young encoder.

    With `clean_from` the last epochs show every image once and as it is: members of a pseudo-class are different enough without
    being warped, a pass costs half, and the encoder ends on images like those that it is asked about.

    Args:
        temperature: divides every cosine similarity.
        warmup_epochs: first epochs, without pseudo-classes.
        every: epochs from one clustering to the next.
        per_class: most members of a pseudo-class that come into a batch side by side; 1 leaves batches as they are.
        neighbors: nearest samples in each direction that can be linked.
        link_temperature: of the links' weights, see `kinshot.kin.markov_clusters`.
        inflation: larger ones make smaller pseudo-classes.
        doubt: inflation of coarser clusters, below `inflation`: images of one of them that are of different pseudo-classes are neither
            kin nor told apart; 0 for no doubt.
        turned: whether images are clustered by what is said of them in all four positions, side by side, for square images whose views
            are turned too (`views.turns`).
        views: of each sample, 2 or more; 0 is as many as `views.views` gives.
        clean_from: first epoch, from 0, that shows every image once and as it is, after `warmup_epochs`; 0 for none.
    """

    assigned: Tensor
    found: Tensor
    coarse: Tensor | None

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        temperature: float = 0.1,
        warmup_epochs: int = 10,
        every: int = 2,
        per_class: int = 4,
        neighbors: int = 20,
        link_temperature: float = 0.1,
        inflation: float = 1.8,
        doubt: float = 0.0,
        turned: bool = False,
        views: int = 0,
        clean_from: int = 0,
    ) -> None:
        super().__init__(model)
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
        for name, value, least in (("warmup_epochs", warmup_epochs, 0), ("every", every, 1), ("per_class", per_class, 1)):
            if value < least:
                raise ConfigError(f"{name}: expected at least {least}, got {value}")
        if views < 0 or views == 1:
            raise ConfigError(f"pseudo_classes: views is at least 2, or 0 for as many as views.views gives, got {views}")
        if context.batch_size < 2:
            raise ConfigError(f"pseudo_classes: expected a batch of at least 2, got {context.batch_size}: negatives come from the batch")
        if turned:
            check_square(getattr(model.encoder, "input", None))
        check_markov(neighbors, link_temperature, inflation)
        if doubt and not 1 < doubt < inflation:
            raise ConfigError(f"doubt: expected 0, or a number above 1 and below inflation, {inflation}, got {doubt}")
        if clean_from and clean_from < max(1, warmup_epochs):
            raise ConfigError(
                f"clean_from: expected 0 for never, or at least warmup_epochs, {warmup_epochs}, got {clean_from}: "
                "an image that is seen once has kin in its pseudo-class alone"
            )
        self.clean_from = clean_from
        self.context, self.temperature, self.view_count = context, temperature, views or 2
        self.warmup_epochs, self.every, self.turned = warmup_epochs, every, turned
        self._links = partial(mutual_links, neighbors=neighbors, temperature=link_temperature)
        self.inflation, self.doubt = inflation, doubt
        self.register_buffer("assigned", torch.arange(context.num_samples))
        self.register_buffer("found", torch.zeros(2))
        self.register_buffer("coarse", torch.arange(context.num_samples) if doubt else None)
        self.per_class = per_class

    @property
    def order(self) -> Order:  # type: ignore[override]
        """Which samples make up each batch of an epoch, by the pseudo-classes that it begins with."""
        return self._batches

    def _batches(self, epoch: int) -> Tensor:
        size, steps, seed = self.context.batch_size, self.context.steps_per_epoch, self.context.seed
        labels = self.assigned.cpu().numpy()
        if epoch < self.warmup_epochs or self.per_class == 1:
            return shuffled(labels, size, steps, seed)(epoch)
        return together(labels, size, steps, seed, per_class=self.per_class)(epoch)

    def start_epoch(self, epoch: int, extract: Extract) -> None:
        """Find the pseudo-classes of an epoch for which they are due."""
        if epoch >= self.warmup_epochs and (epoch - self.warmup_epochs) % self.every == 0:
            # what is in the buffer is what a run that goes on in the middle of an epoch makes its batches of
            links = self._links(self._embedded(extract))
            self.assigned.copy_(flow_clusters(links, self.inflation))
            sizes = torch.bincount(self.assigned)
            several = sizes > 1
            self.found.copy_(torch.stack([several.sum(), sizes[several].sum() / len(self.assigned)]))
            if self.coarse is not None:
                self.coarse.copy_(flow_clusters(links, self.doubt))

    def _embedded(self, extract: Extract) -> Tensor:
        if not self.turned:
            return extract()
        return torch.cat([unit(extract(quarters=quarters)) for quarters in range(4)], dim=1)

    def shows_clean(self, epoch: int) -> bool:
        """Whether the epoch is one of the last, which show every image as it is."""
        return 0 < self.clean_from <= epoch

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Of all views that there are in this epoch."""
        return outputs_of(self.model, batch, range(len(batch.views)), [*self.uses, *names])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """NT-Xent over all views while warming up, then SupCon over all views of the members of pseudo-classes."""
        z, ids = outputs["projector"], batch.indices
        if step // self.context.steps_per_epoch < self.warmup_epochs:
            return {"loss": nt_xent(z, kin.views(ids, self.view_count), temperature=self.temperature)}
        ids = ids.to(self.assigned.device).repeat(len(outputs.shown.views))
        relation, y = kin.labels(self.assigned[ids]), self.assigned[ids]
        if self.coarse is not None:
            wide = self.coarse[ids]
            relation = relation.without((wide.unsqueeze(1) == wide) & (y.unsqueeze(1) != y))
        return {"loss": sup_con(z, relation, temperature=self.temperature)}

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Once there are some: how many pseudo-classes have several members, and the share of all samples that these cover."""
        if step // self.context.steps_per_epoch < self.warmup_epochs:
            return {}
        return {"count": self.found[0], "covered": self.found[1]}


def check_square(spec: Spec | None) -> None:
    """Raises ConfigError for samples that cannot be turned by a quarter."""
    if not isinstance(spec, PixelSpec) or spec.height != spec.width:
        got = "other samples" if spec is None else spec.describe()
        raise ConfigError(f"method.turned: only square images can be turned, got {got}: set method.turned=false")
