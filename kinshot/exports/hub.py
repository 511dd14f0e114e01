"""An exported folder by way of huggingface_hub: from a folder here, or from the Hub by its name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.learn.model import Model
from kinshot.recipes.exported import NAMES
from kinshot.runs.load import load


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="kinshot", tags=["kinshot"]):
    """A model that `ssl export --format huggingface` wrote, with what huggingface_hub gives any model of its mixin.

    It needs the package huggingface_hub, which timm brings. `HubModel.from_pretrained(FOLDER_OR_NAME)` opens one, verified, in evaluation
    mode; a name is looked for on the Hub, and of what lies there only the files of an export are taken. To put one on the Hub, upload its
    folder: `huggingface_hub.upload_folder(folder_path=FOLDER, repo_id=NAME)`.

    Args:
        model: what `kinshot.load` gives.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor | Sequence[str] | Mapping[str, Tensor]) -> Tensor:
        """Backbone features of samples as `Model.prepare` takes them, with gradients."""
        found: Tensor = self.model(samples)
        return found

    def embed(self, samples: Tensor | Sequence[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features by name, as `Model.embed` gives them."""
        return self.model.embed(samples)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, revision: str | None, cache_dir: str | Path | None, force_download: bool, local_files_only: bool,
        token: str | bool | None, map_location: str = "cpu", **_: Any,
    ) -> HubModel:  # fmt: skip
        folder = model_id
        if not os.path.isdir(model_id):
            folder = snapshot_download(
                model_id, revision=revision, cache_dir=cache_dir, force_download=force_download, local_files_only=local_files_only,
                token=token, allow_patterns=list(NAMES),
            )  # fmt: skip
        return cls(load(folder, map_location)).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        raise ConfigError("an export is written by `ssl export RUN --format huggingface`, and put on the Hub by uploading its folder")
