"""Device, precision, threads, allocator and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kinshot.core import runtime
from kinshot.core.errors import ConfigError, Interrupted
from kinshot.core.signals import StopRequest

REPOSITORY = Path(__file__).resolve().parents[1]


def run_script(text: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", text]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


# -- devices and precision


def test_auto_takes_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert runtime.resolve_device("auto").type == expected
    assert runtime.resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:x", "cuda:", "cuda:-1", "mps:0", "", "CPU", "cuda:1:2"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        runtime.resolve_device(name)


def test_absent_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ConfigError, match="use auto or cpu"):
            runtime.resolve_device(name)


def test_a_cuda_number_too_high_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="there are 2 CUDA devices"):
        runtime.resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("flags", "expected"), [("sse2 avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx512f avx512_vnni", "fp32"), ("", "fp32")]
)
def test_auto_precision_follows_the_cpu(flags: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    name, reason = runtime.resolve_precision("auto", torch.device("cpu"))
    assert name == expected
    assert "bf16" in reason
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert runtime.resolve_precision("auto", torch.device("cpu")).name == "fp32"


def test_a_named_precision_is_obeyed_and_a_wrong_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cpu_flags", frozenset)
    assert runtime.resolve_precision("fp32", torch.device("cpu")).name == "fp32"
    slow = runtime.resolve_precision("bf16", torch.device("cpu"))
    assert slow.name == "bf16"
    assert "slow" in slow.reason
    with pytest.raises(ConfigError, match="did you mean 'bf16'"):
        runtime.resolve_precision("bf61", torch.device("cpu"))


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        assert runtime.set_threads(2) == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ConfigError, match="expected 1 to"):
        runtime.set_threads(0)


def test_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        runtime.deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        runtime.deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_machine_is_plain_data() -> None:
    described = runtime.describe_machine(torch.device("cpu"))
    assert json.loads(json.dumps(described)) == described
    assert described["torch"] == str(torch.__version__)
    assert described["threads"] == torch.get_num_threads()
    assert described["cpu"]


# -- allocator

FAULTS = """
import ctypes, resource
from kinshot.core.runtime import allocator_obstacle, tune_allocator
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        block = libc.malloc(48 * 2**20)
        libc.memset(block, 1, 48 * 2**20)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
report = tune_allocator()
faults()
after = faults()
import sys
print(before, after, "torch" in sys.modules, report)
"""


def test_allocator_keeps_memory() -> None:
    if runtime.allocator_obstacle() is not None:
        assert runtime.tune_allocator() is None
        pytest.skip(f"nothing to tune: {runtime.allocator_obstacle()}")
    ran = run_script(FAULTS)
    assert ran.returncode == 0, ran.stderr
    before, after, torch_imported, report = ran.stdout.split(" ", 3)
    assert int(after) * 10 < int(before)
    assert torch_imported == "False"
    assert report.startswith("allocator: glibc")


def test_allocator_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2")
    monkeypatch.setattr(sys, "platform", "linux")
    assert "jemalloc" in str(runtime.allocator_obstacle())
    assert runtime.tune_allocator() is None
    monkeypatch.delenv("LD_PRELOAD")
    monkeypatch.setattr(runtime, "_glibc", lambda: "")
    assert "glibc" in str(runtime.allocator_obstacle())
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "darwin" in str(runtime.allocator_obstacle())


# -- signals


@pytest.fixture(autouse=True)
def handlers_restored() -> Iterator[None]:
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    signal.signal(signal.SIGHUP, inherited)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_sets_the_flag(signum: signal.Signals) -> None:
    with StopRequest() as stop:
        assert stop.requested is None
        stop.raise_if_requested("nowhere")
        os.kill(os.getpid(), signum)
        assert stop.requested == signum
        with pytest.raises(Interrupted, match=f"{signum.name} after step 3") as caught:
            stop.raise_if_requested("after step 3")
    assert caught.value.exit_code == 128 + signum


def test_second_sigint_ends_at_once() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested == signal.SIGTERM


def test_second_sigterm_ends_at_once() -> None:
    with StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143


def test_hangups_are_no_second_signal_and_no_first() -> None:
    """The kernel and the shell both tell of a closed terminal, and a session's end sends SIGTERM as well."""
    with StopRequest() as stop:
        for signum in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), signum)
        assert stop.requested == signal.SIGTERM
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.requested is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_come_back_after_an_error() -> None:
    with pytest.raises(ValueError, match="boom"), StopRequest():
        raise ValueError("boom")


def test_other_threads_install_nothing() -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with StopRequest() as stop:
            inside.append((signal.getsignal(signal.SIGTERM), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(before, None)]


FORKED = """
import os, signal, time
from kinshot.core.signals import StopRequest
with StopRequest() as stop:
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.05)
    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGHUP)
    time.sleep(0.05)
    print(os.waitpid(child, os.WNOHANG)[0] == 0)
    os.kill(child, signal.SIGTERM)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM, stop.requested)
"""


def test_forked_workers_end_on_sigterm_and_leave_what_a_terminal_sends_to_the_parent() -> None:
    started = time.monotonic()
    ran = run_script(FORKED)
    assert ran.stdout.split("\n")[:2] == ["True", "True None"], ran.stderr
    assert time.monotonic() - started < 20
