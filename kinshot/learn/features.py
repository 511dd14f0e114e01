"""Features of a whole source, computed once: extraction, weight hashes and a cache that cannot serve stale or damaged data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError

FEATURE_VERSION = "1"
"""Part of every cache key; raise it when extraction changes what the same weights give for the same samples."""

Embed = Callable[[Tensor], Mapping[str, Tensor]]
"""Prepared batch -> features by name, each (B, D)."""

_log = logging.getLogger(__name__)


class SampleSource(Protocol):
    """What extraction needs of a source: a length and samples by index."""

    def __len__(self) -> int: ...

    def load(self, indices: np.ndarray) -> Tensor:
        """uint8 images (B, C, H, W), float32 features (B, F), or tokens (B, L)."""


def joint_feature(found: Mapping[str, Tensor]) -> Tensor:
    """[backbone, projector], each at unit length: one sample, one forward pass, two opinions of equal weight; (N, dim + D)."""
    return torch.cat([nn.functional.normalize(found[name], dim=1) for name in ("backbone", "projector")], dim=1)


def extract(
    embed: Embed,
    source: SampleSource,
    prepare: Callable[[Tensor], Tensor],
    *,
    rows: np.ndarray | None = None,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> dict[str, Tensor]:
    """Features of every sample of a source (or of `rows`), in its order: float32 (N, D) on the CPU, by name.

    No gradient; where `embed` is a module, or a method bound to one, it runs in eval mode and is left as it was found.

    Args:
        embed: prepared batch -> features by name.
        source: samples to embed.
        prepare: a loaded batch on the device -> what `embed` takes (for an encoder: resized and normalised).
        rows: indices of the samples to embed; None is all of them.
        batch_size: samples at once.
        device: where `prepare` and `embed` run; the module must be there already.

    Raises:
        ConfigError: batch_size below 1.
        DataError: an empty source, or features that are not (B, D) or not finite.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    chosen = np.arange(len(source)) if rows is None else np.asarray(rows)
    total = len(chosen)
    if total == 0:
        raise DataError("the source has no sample: check its folder and split")
    features: dict[str, Tensor] = {}
    with torch.no_grad(), eval_mode(embed):
        for first in range(0, total, batch_size):
            indices = chosen[first : first + batch_size]
            found = embed(prepare(source.load(indices).to(device)))
            for name, value in found.items():
                if value.ndim != 2 or len(value) != len(indices):
                    raise DataError(f"features {name!r} have shape {tuple(value.shape)} for {len(indices)} samples: embed must give (B, D)")
                if name not in features:
                    features[name] = torch.empty(total, value.shape[1])
                features[name][first : first + len(indices)] = value
    for name, value in features.items():
        _check_finite(name, value)
    return features


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of tensors, in the order of their names; device plays no part."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where features are kept: the environment variable KINSHOT_CACHE, else `~/.cache/kinshot`."""
    return Path(os.environ.get("KINSHOT_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "kinshot"))


def cached_features(
    key_parts: Mapping[str, str], compute: Callable[[], dict[str, Tensor]], cache_dir: Path | None = None
) -> dict[str, Tensor]:
    """Features from the cache, or computed and kept there for next time.

    The key is the SHA-256 of the parts and FEATURE_VERSION, so other weights, samples or input settings never meet.
    A file that is truncated, altered or foreign is discarded and computed anew. A cache that cannot be read or
    written costs time, never an error.

    Args:
        key_parts: everything the features depend on, for example weights hash, source fingerprint, input specification.
        compute: what gives the features, contiguous on the CPU.
        cache_dir: folder of the cache; None is `cache_folder()`.
    """
    key = hashlib.sha256(json.dumps({**key_parts, "feature version": FEATURE_VERSION}, sort_keys=True).encode()).hexdigest()
    path = (cache_dir or cache_folder()) / "features" / f"{key}.safetensors"
    features = _read(path, key)
    if features is None:
        features = compute()
        _write(path, key, features)
    return features


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """The features in `path`, or None where there is no file that holds exactly what was written under `key`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("feature cache %s cannot be read (%s): computing the features", path, error)
        return None
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        features = load(data)
        recorded = header["__metadata__"]
        if recorded["key"] == key and recorded["checksum"] == weights_hash(features):
            return features
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        pass  # whatever the damage looks like, the file is not what was written: same treatment below
    _log.warning("feature cache %s is damaged: discarded, computing the features anew", path)
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def _write(path: Path, key: str, features: Mapping[str, Tensor]) -> None:
    """Write atomically: a temporary file in the same folder, flushed to disk, then renamed."""
    from safetensors.torch import save

    # clones: names may share storage, which the format does not allow
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in features.items()}
    data = save(tensors, {"key": key, "checksum": weights_hash(tensors)})
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{key[:16]}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _log.warning("feature cache %s cannot be written (%s): continuing without it", path, error)
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _check_finite(name: str, value: Tensor) -> None:
    finite = torch.isfinite(value).all(1)
    if not bool(finite.all()):
        wrong = (~finite).nonzero()
        raise DataError(
            f"features {name!r} of {len(wrong)} of {len(value)} samples are not finite, the first is sample {int(wrong[0])}: "
            "the weights have diverged or are damaged; use another checkpoint"
        )


@contextlib.contextmanager
def eval_mode(embed: Any) -> Iterator[None]:
    """Eval mode for the module behind `embed`, if there is one; each submodule's own mode comes back afterwards."""
    owner = getattr(embed, "__self__", embed)
    modules = list(owner.modules()) if isinstance(owner, nn.Module) else []
    before = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training
