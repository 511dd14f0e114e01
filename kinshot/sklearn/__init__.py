"""kinshot in scikit-learn: an encoder as a transformer and every few-shot head as a classifier, `kinshot.sklearn.TimClassifier`.

Whatever scikit-learn itself is meant here by its own name: `import sklearn` is the library, everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import Declared, face
from kinshot.sklearn.naming import heads_by_class

if TYPE_CHECKING:  # and a class of every head
    from kinshot.sklearn.encoding import EncoderTransformer as EncoderTransformer
    from kinshot.sklearn.heads import FewShotClassifier as FewShotClassifier
    from kinshot.sklearn.heads import classifier as classifier
    from kinshot.sklearn.saving import load as load
    from kinshot.sklearn.saving import save as save

    def __getattr__(name: str) -> Any: ...


class _WithHeads(Declared):
    """What the block above names, and the class of every head of the registry, plug-ins among them."""

    def names(self) -> list[str]:
        return [*super().names(), *heads_by_class()]

    def get(self, name: str) -> Any:
        if name in self.places:
            return super().get(name)
        from kinshot.sklearn.heads import class_of

        return class_of(heads_by_class()[name])


face(__name__, _WithHeads(__name__, __file__))
