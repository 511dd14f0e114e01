"""Parts in other people's packages: found through entry points, read without importing them, named when they are broken."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kinshot.core.errors import ConfigError
from kinshot.core.registry import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry of widgets of a package `host`, with one part of its own."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "__init__.py").write_text("")
    (tmp_path / "host" / "registry.py").write_text("from kinshot.core.registry import Registry\nREG = Registry('widget', 'host')\n")
    (tmp_path / "host" / "first.py").write_text("from host.registry import REG\n@REG.register('first')\ndef first(): 'One.'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("host.registry").REG
    for name in [n for n in sys.modules if n.partition(".")[0] == "host"]:
        del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install a package `guest` of one module with an entry point for it; returns the module's file."""

    def make(text: str | bytes, module: str = "guest_parts", group: str = "kinshot.widget") -> Path:
        folder = tmp_path / "installed"
        information = folder / "guest-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[{group}]\nmine = {module}\n")
        (folder / "guest_parts.py").write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.syspath_prepend(str(folder))
        return folder / "guest_parts.py"

    yield make
    sys.modules.pop("guest_parts", None)


GUEST = "from host.registry import REG\n@REG.register('third')\ndef third(*, size: int = 3):\n    'A guest.'\n    return size\n"


def test_plugins_join_through_entry_points(registry: Registry, install: Callable[..., Path]) -> None:
    install(GUEST)
    assert registry.names() == ["first", "third"]
    assert "guest_parts" not in sys.modules
    assert registry.build("third", settings={"size": 4}) == 4


@pytest.mark.parametrize(
    ("text", "module", "words"),
    [
        (GUEST, "absent.package.module", r"cannot be looked for \(ModuleNotFoundError"),
        (GUEST, "absent_module", "names the missing module absent_module"),
        ("def broken(:\n", "guest_parts", "guest_parts.py: invalid syntax"),
        ("x = 1\n", "guest_parts", "guest_parts.py: registers no widget"),
        (GUEST.replace("= 3", "= 1 / 3"), "guest_parts", "guest_parts.py: third: setting size has the default 1 / 3"),
        (GUEST.encode() + b"# \xff\n", "guest_parts", "guest_parts.py: .*utf-8"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package_and_file(
    text: str | bytes, module: str, words: str, registry: Registry, install: Callable[..., Path]
) -> None:
    install(text, module)
    with pytest.raises(ConfigError, match=rf"plug-in 'mine' of package guest.*{words}"):
        registry.names()


def test_a_plugin_that_cannot_be_imported_is_named(registry: Registry, install: Callable[..., Path]) -> None:
    file = install(f"{GUEST}\nraise OverflowError('too much')\n")
    assert "third" in registry.names()
    words = rf"widget 'third' cannot be loaded: plug-in 'mine' of package guest, {file}: OverflowError: too much"
    with pytest.raises(ConfigError, match=words):
        registry.get("third")


def test_a_file_may_hold_parts_of_several_kinds(registry: Registry, install: Callable[..., Path]) -> None:
    other = "from kinshot.encoders import ENCODERS\n@ENCODERS.register('elsewhere')\ndef elsewhere(): ...\n"
    install(GUEST + other)
    assert "elsewhere" not in registry.names()
    assert "third" in registry.names()
