"""The command `fewshot studio`: how it starts, what it says of mistakes, and how it ends."""

from __future__ import annotations

import builtins
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from kinshot.cli import fewshot
from tests.enrolled_tools import taught
from tests.studio_tools import KNOWN, ORIGIN, SMALL, TOKEN, counts
from tests.tiny import command, environment

pytest.importorskip("starlette", reason="needs the packages of kinshot[studio]")


def start(tmp_path: Path, *more: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    line = command("fewshot", "studio", tmp_path / "a.kin", "--port", "0", "--json", "--device", "cpu", *more)
    process = subprocess.Popen(line, cwd=tmp_path, env=environment(TMPDIR=str(tmp_path)), stdout=-1, stderr=-1, text=True)
    lines = ""
    while not lines.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        lines += line
    return process, json.loads(lines)


@pytest.mark.parametrize(("signum", "code", "message"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")])
def test_a_signal_ends_it_and_leaves_nothing_behind(tmp_path, signum, code, message):
    taught(tmp_path / "a.kin", tmp_path / "photos")
    before = (tmp_path / "a.kin").read_bytes()
    process, said = start(tmp_path)
    try:
        address, _, key = said["url"].partition("#")
        assert address.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=address, headers={"origin": address.rstrip("/"), "x-kinshot-token": key}) as client:
            assert counts(client.get("/api/state").json()) == KNOWN
            assert client.get("/api/state", headers={"x-kinshot-token": TOKEN}).status_code == 401
            with socket.create_connection(("127.0.0.1", client.base_url.port)) as raw:  # whoever sends half a request does not hold it up
                raw.sendall(b"POST /api/teach HTTP/1.1\r\n")
                process.send_signal(signum)
                _, messages = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, messages
    assert message in messages
    assert "Traceback" not in messages
    assert key not in messages
    assert (tmp_path / "a.kin").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("kinshot-studio")] == []


def test_a_request_without_a_length_is_cut_off_where_it_is_served(tmp_path):
    from kinshot.studio.serve import serving
    from kinshot.studio.state import Studio

    taught(tmp_path / "a.kin", tmp_path / "photos")
    with serving(Studio(tmp_path / "a.kin", device="cpu", limits=SMALL), 0) as served:
        address, _, key = served.url.partition("#")
        head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
        headers = {"origin": address.rstrip("/"), "x-kinshot-token": key, "content-type": "multipart/form-data; boundary=x"}
        with httpx.Client(base_url=address, headers=headers) as client:
            reply = client.post("/api/predict", content=iter([head, *[bytes(1000)] * 250]))
            assert (reply.status_code, reply.request.headers.get("content-length")) == (413, None)
            assert counts(client.get("/api/state").json()) == KNOWN


def said(capsys, *words: object) -> tuple[int, str, str]:
    code = fewshot.main([str(word) for word in words])
    return (code, *capsys.readouterr())


def test_a_port_in_use_is_named(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = said(capsys, "studio", tmp_path / "a.kin", "--port", port)
    assert (code, out) == (2, "")
    assert f"port {port} is in use: choose another one with --port" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.txt"], 2, "ends with .kin"),
        (["missing/a.kin"], 2, "there is no folder missing"),
        (["rubbish.kin"], 3, "rubbish.kin"),
        (["a.kin", "--port", "70000"], 2, "0 (any free port) to 65535"),
        (["a.kin", "--thumbnails", "4"], 2, "8 to 512"),
        (["a.kin", "--encoder", "no/such/run"], 3, "no/such/run"),
        (["a.kin", "--device", "gpu"], 2, "gpu"),
    ],
)
def test_mistakes_are_told_before_anything_is_served(tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    Path("rubbish.kin").write_bytes(b"rubbish")
    got, out, err = said(capsys, "studio", *([*words] if "--port" in words else [*words, "--port", "0"]))
    assert (got, out) == (code, "")
    assert message in err
    assert not Path("a.kin").exists()


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart"])
def test_without_the_extra_it_says_how_to_get_it(tmp_path, monkeypatch, capsys, package):
    for name in [name for name in sys.modules if name.startswith("kinshot.studio")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def missing(name, *rest):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    code, _, err = said(capsys, "studio", tmp_path / "a.kin")
    assert code == 2
    assert "pip install 'kinshot[studio]'" in err


def test_the_browser_is_not_given_the_key_where_others_can_read_it(tmp_path, monkeypatch):
    from kinshot.studio.serve import serving
    from kinshot.studio.state import Studio

    taught(tmp_path / "a.kin", tmp_path / "photos")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)) or True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serving(Studio(tmp_path / "a.kin", device="cpu"), 0) as served:
        assert served.open_browser()
        (address,) = opened
        file = Path(address.removeprefix("file://"))
        assert served.url in file.read_text()
        assert served.url.partition("#")[2] not in address
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not file.exists()
    assert served.url != ORIGIN
