"""The machine under a run: device, precision, threads, memory allocator, and a description of them for result files."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kinshot.core.errors import ConfigError, suggest

if TYPE_CHECKING:
    import torch

_BF16_FLAGS = ("avx512_bf16", "amx_bf16")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 64 * 2**20
MOST_THREADS = 512
"""OpenMP ends the process where it cannot start a thread; no machine that one process runs on gains by more."""


class Precision(NamedTuple):
    """The precision to train in, and why."""

    name: Literal["fp32", "bf16"]
    reason: str


def tune_allocator() -> str | None:
    """Keep freed memory in the process instead of giving it back to the kernel after every step.

    glibc returns large blocks at once, so each step of a CPU run faults its activations in again: up to half of its time.
    Costs a little peak memory; acts on the whole process and stays. Returns what was done, for the report, or None where
    there is nothing to tune (`allocator_obstacle` says why).
    """
    if allocator_obstacle() is not None:
        return None
    import ctypes  # recipes are read with this module, and `ssl --help` does not wait for what only runs need

    libc = ctypes.CDLL(None)
    wanted = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, _TOP_PAD))
    if not all(libc.mallopt(option, value) for option, value in wanted):
        return None
    return f"allocator: {_glibc()} keeps freed memory (M_MMAP_MAX=0, M_TRIM_THRESHOLD=2^31-1, M_TOP_PAD=64 MiB)"


def allocator_obstacle() -> str | None:
    """Why `tune_allocator` would do nothing here, or None if it would act."""
    if not sys.platform.startswith("linux"):
        return f"the allocator of {sys.platform} is left as it is"
    preloaded = os.environ.get("LD_PRELOAD", "")
    for other in ("jemalloc", "tcmalloc", "mimalloc"):
        if other in preloaded:
            return f"{other} is preloaded and keeps memory by itself"
    if not _glibc():
        return "the C library is not glibc"
    return None


def resolve_device(name: str) -> torch.device:
    """The device called "auto", "cpu", "cuda", "cuda:N" or "mps"; "auto" takes the first there is of CUDA, MPS, CPU.

    Raises ConfigError for an unknown name or a device that this machine or this torch does not have.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = str(name).partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in str(name) and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f"unknown device {name!r}: {suggest(name, ('auto', 'cpu', 'cuda', 'cuda:0', 'mps'))}")
    if kind == "cuda" and not cuda:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise ConfigError(f"device {name!r}: no usable CUDA device (torch {torch.__version__} was built with {built}); use auto or cpu")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0; use a smaller number")
    if kind == "mps" and not mps:
        raise ConfigError(f"device {name!r}: this machine or this torch has no MPS; use auto or cpu")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The precision called "fp32", "bf16" or "auto" on `device`, and why.

    "auto" takes bf16 where the hardware multiplies it (CPU with avx512_bf16 or amx_bf16, CUDA since Ampere), else fp32.
    Asking for bf16 by name is obeyed anywhere. Raises ConfigError for another name.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"unknown precision {name!r}: {suggest(name, ('auto', 'fp32', 'bf16'))}")
    supported, finding = _bf16_support(device)
    if name == "auto":
        return Precision("bf16" if supported else "fp32", finding)
    if name == "bf16" and not supported:
        return Precision("bf16", f"as asked; it will be slow: {finding}")
    return Precision("fp32" if name == "fp32" else "bf16", "as asked")


def set_threads(n: int) -> int:
    """Let torch use `n` threads inside an operation; returns n. Results are repeatable bit for bit for the same n only."""
    import torch

    if not 1 <= n <= MOST_THREADS:
        raise ConfigError(f"threads: expected 1 to {MOST_THREADS}, got {n}")
    torch.set_num_threads(n)
    return n


def deterministic(enabled: bool = True) -> None:
    """Make torch refuse operations that can differ from run to run on one device (CUDA; the CPU is repeatable anyway).

    Call before the first CUDA operation: cuBLAS reads its setting once.
    """
    import torch

    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = enabled


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """What a measurement depends on, as plain data for result files; names no host and no user."""
    import platform

    import torch

    described: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_features": processor_features(),
        "cpu_bf16": [flag for flag in _BF16_FLAGS if flag in cpu_flags()],
        "threads": torch.get_num_threads(),
        "device": str(device) if device is not None else "cpu",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device is not None and device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
        described["cuda"] = torch.version.cuda
    return described


def describe_compute(precision: str, device: torch.device) -> str:
    """What the last bits of a result depend on, in words: precision, threads, and the instructions that torch uses, or the GPU."""
    import torch

    threads = torch.get_num_threads()
    where = processor_features() if device.type == "cpu" else f"{processor_features()}, {_accelerator(device)}"
    return f"{precision}, {threads} thread{'s' * (threads > 1)}, {where}"


def processor_features() -> str:
    """The widest vector instructions that torch's own kernels use on this processor: DEFAULT, AVX2, AVX512 and others."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def _accelerator(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def cpu_model() -> str:
    """The processor's name, as well as the system tells it."""
    import platform

    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor (Linux); empty elsewhere."""
    return frozenset(_cpuinfo("flags").split())


def _bf16_support(device: torch.device) -> tuple[bool, str]:
    import torch

    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return supported, f"{torch.cuda.get_device_name(device)} {'computes' if supported else 'does not compute'} bf16"
    if device.type != "cpu":
        return False, f"bf16 is not measured on {device.type}"
    flags = [flag for flag in _BF16_FLAGS if flag in cpu_flags()]
    if not flags:
        return False, "this CPU has neither avx512_bf16 nor amx_bf16"
    if not torch.backends.mkldnn.is_available():
        return False, f"this CPU has {flags[0]}, but this torch was built without oneDNN, which would use it"
    return True, f"this CPU has {' and '.join(flags)}"


def _glibc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError, AttributeError):
        return ""


@cache
def _cpuinfo(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, or an empty text."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
