"""Downloads: HTTPS alone, and only what was published is kept. The network is played by bytes in memory."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.error

import pytest

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES, download
from kinshot.datasets.download import Remote, fetch, fetch_archive

CONTENT = bytes(range(256)) * 20


def remote(content: bytes = CONTENT, url: str = "https://example.org/data.bin") -> Remote:
    return Remote(url, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def served(monkeypatch):
    """What every address answers, and the addresses that were asked."""
    asked: list[str] = []

    class Opener:
        content = CONTENT

        def open(self, url: str, timeout: float) -> io.BytesIO:
            asked.append(url)
            return io.BytesIO(self.content)

    monkeypatch.setattr(download, "_opener", Opener)
    return Opener, asked


def test_what_was_published_is_kept(tmp_path, served):
    fetch(remote(), tmp_path / "new" / "data.bin")
    assert (tmp_path / "new" / "data.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.bin"]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"", CONTENT[::-1], CONTENT * 1000])
def test_anything_else_is_not(tmp_path, served, content):
    served[0].content = content
    with pytest.raises(DataError, match=r"not the published file.*by hand"):
        fetch(remote(), tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "ftp://127.0.0.1:9/x", "file:///etc/passwd", "data:text/plain,x"])
def test_only_https_is_opened(tmp_path, url):
    """A redirection comes back to the same opener."""
    with pytest.raises(DataError, match=r"unknown url type|no host"):
        fetch(remote(url=url), tmp_path / "data.bin")
    with pytest.raises(urllib.error.URLError, match="unknown url type"):
        download._opener().open(url)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_stays_in_its_folder(tmp_path, served):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("inside/a.txt", "../outside.txt"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    served[0].content = packed.getvalue()
    with pytest.raises(DataError, match="cannot unpack"):
        fetch_archive(remote(packed.getvalue(), "https://example.org/a.tar.gz"), tmp_path / "root")
    assert not (tmp_path / "outside.txt").exists()


def test_sources_ask_for_published_files_over_https(tmp_path, served):
    """Fashion-MNIST asks for the two files of its split and for nothing that could be unpickled; all are checked."""
    for name, count in (("fashion_mnist", 1), ("cifar10", 1), ("cifar100", 1)):
        served[1].clear()
        with pytest.raises(DataError, match="not the published file"):
            SOURCES.build(name, settings={"root": str(tmp_path / name), "download": True})
        assert len(served[1]) == count
        assert all(url.startswith("https://") and url.endswith(".gz") for url in served[1])
