"""Who may talk to the page of `fewshot studio`, and what may be sent to it."""

from __future__ import annotations

import struct
import zlib

import pytest

from tests.enrolled_tools import photo
from tests.studio_tools import ORIGIN, PORT, SMALL, TOKEN, asked, counts, form, picture, state

pytest.importorskip("starlette", reason="needs the packages of kinshot[studio]")
API = [("GET", "/api/state"), ("GET", f"/api/picture/{'0' * 32}"), ("GET", "/api/model"), ("POST", "/api/teach"), ("POST", "/api/predict")]
API += [("POST", "/api/forget"), ("POST", "/api/undo")]


@pytest.fixture
def client(tmp_path):
    with asked(tmp_path) as found:
        yield found


@pytest.fixture
def bounded(tmp_path):
    with asked(tmp_path, limits=SMALL) as found:
        yield found


# -- who is let in


@pytest.mark.parametrize(("method", "path"), API)
@pytest.mark.parametrize("key", ["", "wrong", TOKEN[:-1], TOKEN + "t", "é" * 43])
def test_without_the_key_nothing_is_shown_or_changed(client, method, path, key, tmp_path):
    before = (tmp_path / "a.kin").read_bytes()
    reply = client.request(method, path, headers={"x-kinshot-token": key.encode("latin-1")})
    assert (reply.status_code, list(reply.json())) == (401, ["error"])
    assert (tmp_path / "a.kin").read_bytes() == before


@pytest.mark.parametrize("place", ["a cookie", "the address"])
def test_the_key_is_taken_from_nowhere_else(client, place):
    del client.headers["x-kinshot-token"]
    reply = client.get("/api/state" if place == "a cookie" else f"/api/state?token={TOKEN}", headers={"cookie": f"token={TOKEN}"})
    assert reply.status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1.evil.example:{PORT}", f"[::1]:{PORT}", ""]
)
@pytest.mark.parametrize("path", ["/", "/studio.js", "/api/state"])
def test_a_name_that_was_rebound_to_this_machine_is_refused(client, host, path):
    reply = client.get(path, headers={"host": host})
    assert reply.status_code == 421
    assert ORIGIN in reply.json()["error"]


def test_localhost_is_this_machine(client):
    host = f"localhost:{PORT}"
    assert client.get("/api/state", headers={"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", f"https://127.0.0.1:{PORT}", f"http://localhost:{PORT}"]
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), *API])
def test_another_pages_requests_are_refused(client, method, path, origin):
    reply = client.request(method, path, headers={"origin": origin})
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers


def test_what_changes_something_says_where_it_comes_from(client):
    del client.headers["origin"]
    assert client.post("/api/undo", json={}).status_code == 403
    assert client.get("/api/state").status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_site_makes_the_browser_fetch_is_refused(client, site):
    assert client.get("/api/state", headers={"sec-fetch-site": site}).status_code == 403


def test_a_preflight_gets_no_permission(client):
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "x-kinshot-token"}
    reply = client.options("/api/teach", headers={"origin": "http://evil.example", **wanted})
    assert reply.status_code == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/style.css", "/api/state", "/nothing", "/api/nothing"])
def test_every_answer_has_the_policy(client, path):
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in headers["content-security-policy"]
    plain = [headers[name] for name in ("x-content-type-options", "referrer-policy", "cache-control")]
    assert plain == ["nosniff", "no-referrer", "no-store"]


# -- what is served


@pytest.mark.parametrize(
    "path",
    [
        "/../setup.py",
        "/..%2f..%2fsetup.py",
        "/%2e%2e/app.py",
        "/static/studio.js",
        "//etc/passwd",
        "/app.py",
        "/studio.js/",
        "/.hidden",
        "/api/picture/..%2f..%2fa.kin",
        "/api/picture/%00",
        f"/api/picture/{'0' * 31}/",
        f"/api/picture/{'f' * 32}",
    ],
)
def test_nothing_else_is_served(client, path):
    reply = client.get(path, follow_redirects=False)
    assert reply.status_code in (404, 307)
    assert "location" not in reply.headers or reply.headers["location"].startswith(ORIGIN)


def test_pages_have_their_kinds(client):
    kinds = {path: client.get(path).headers["content-type"].split(";")[0] for path in ("/", "/studio.js", "/style.css", "/icon.svg")}
    assert kinds == {"/": "text/html", "/studio.js": "text/javascript", "/style.css": "text/css", "/icon.svg": "image/svg+xml"}
    page = client.get("/").text
    assert "http:" not in page
    assert "https:" not in page
    assert "style=" not in page
    assert page.count("<script") == 1


# -- what is sent


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\boot.ini", "/etc/cron.d/x", "a\x00b.png", "a\nb.png", "C:\\x.png", "", "é" * 500]
)
def test_a_name_is_text_and_no_path(client, tmp_path, name):
    before = {path for path in tmp_path.rglob("*") if "private" not in path.parts}
    reply = client.post("/api/teach", data={"label": "teal"}, files=form((name, picture())))
    if name == "":  # which makes it no file
        assert reply.status_code == 409
        return
    assert reply.status_code == 200, reply.text
    (image,) = next(one["images"] for one in state(client)["classes"] if one["class"] == "teal")
    assert not set(image["file"]) & set("/\\\x00\n")
    assert 0 < len(image["file"]) <= 200
    assert {path for path in tmp_path.rglob("*") if "private" not in path.parts} - before <= {tmp_path / ".a.kin.lock"}
    assert list((tmp_path / "private").iterdir()) == []


def test_a_class_called_like_a_file_is_a_class(client, tmp_path):
    label = str(photo(tmp_path / "x.png", "coal", 1))
    assert client.post("/api/teach", data={"label": label}, files=form(tmp_path / "x.png")).status_code == 200
    assert client.post("/api/forget", json={"class": label}).status_code == 200
    assert counts(state(client)) == {"cherry": 4, "leaf": 4, "sky": 4}
    assert client.post("/api/forget", json={"class": str(tmp_path / "taught" / "sky" / "sky0.png")}).status_code == 409


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
WRONG = {
    "picture.svg": SVG,
    "page.png": b"<!DOCTYPE html><script>alert(1)</script>",
    "half.png": picture((40, 40))[:60],
    "half.jpg": picture((80, 80), "JPEG")[:300],
    "zeros.jpg": bytes(500),
    "nothing.png": b"",
    "program.jpg": b"\x7fELF" + bytes(100),
    "figure.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


def bomb(width: int, height: int) -> bytes:
    """A PNG file that says that it is as large as that, and holds nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)


@pytest.mark.parametrize("path", ["/api/teach", "/api/predict"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", [*WRONG, "bomb.png", "larger bomb.png"])
def test_what_is_no_image_is_named_and_the_rest_is_used(client, path, name, tmp_path):
    content = {"bomb.png": bomb(12_000, 10_000), "larger bomb.png": bomb(60_000, 60_000), **WRONG}[name]
    before = (tmp_path / "a.kin").read_bytes()
    reply = client.post(path, data={"label": "odd"}, files=form((name, content)))
    assert reply.status_code == 422, reply.text
    assert name in reply.json()["error"]
    assert str(tmp_path) not in reply.text
    assert (tmp_path / "a.kin").read_bytes() == before
    reply = client.post(path, data={"label": "odd"}, files=form((name, content), ("good.png", picture())))
    assert reply.status_code == 200
    (refused,) = reply.json()["refused"]
    assert name in refused
    assert list((tmp_path / "private").iterdir()) == []


def test_an_animation_or_a_turned_picture_is_an_image(client):
    for kind in ("GIF", "JPEG", "BMP", "TIFF", "WEBP"):
        assert client.post("/api/predict", files=form((f"a.{kind}", picture(kind=kind)))).status_code == 200


def noise(size: int) -> bytes:
    return picture() + bytes(size)  # what follows a PNG's end is not looked at


def test_a_file_that_is_too_large_is_named(bounded):
    reply = bounded.post("/api/predict", files=form(("large.png", noise(50_000)), ("small.png", picture())))
    assert reply.status_code == 200
    assert "large.png has" in reply.json()["refused"][0]
    assert len(reply.json()["answers"]) == 1


def test_too_many_files_are_refused(bounded):
    assert bounded.post("/api/predict", files=form(*[(f"{n}.png", picture()) for n in range(6)])).status_code == 400


@pytest.mark.parametrize(
    ("path", "size"), [("/api/teach", 300_000), ("/api/predict", 300_000), ("/api/forget", 3_000), ("/api/undo", 3_000)]
)
@pytest.mark.parametrize("said", [True, False])
def test_a_request_that_is_too_long_is_refused_whatever_it_says_of_its_length(bounded, path, size, said):
    boundary = "x" * 20
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'.encode()
    taken = []

    def pieces():
        yield head
        for number in range(size // 1000):
            taken.append(number)
            yield bytes(1000)

    headers = {"content-type": f"multipart/form-data; boundary={boundary}"} | ({"content-length": str(size + len(head))} if said else {})
    reply = bounded.post(path, content=pieces(), headers=headers)
    assert reply.status_code == 413, reply.text
    assert "at once" in reply.json()["error"]


@pytest.mark.parametrize("length", ["-1", "1e9", "x", "\u0661"])
def test_a_length_that_is_no_number_is_refused(client, length):
    headers = {"content-length": length.encode()}
    assert client.post("/api/undo", content=b"", headers=headers).status_code == 400


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"{", b'{"class": 3}', b"\xff", b"[" * 1500, b'{"class": null}'])
def test_what_is_no_object_of_texts_is_refused(client, body):
    assert client.post("/api/forget", content=body).status_code == 400


@pytest.mark.parametrize("body", [b"", b"--x", b"garbage" * 100, b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\n'])
def test_a_broken_form_is_refused(client, body):
    reply = client.post("/api/teach", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert reply.status_code in (400, 409)
    assert reply.json()["error"]


def test_small_pictures_are_remembered_up_to_a_number(bounded):
    for colour in ("red", "green", "blue", "black"):
        reply = bounded.post("/api/predict", files=form(("a.png", picture(colour=colour))))
        last = reply.json()["answers"][0]["image"]
        if colour == "red":
            first = last
    assert bounded.get(f"/api/picture/{last}").headers["content-type"] == "image/png"
    assert bounded.get(f"/api/picture/{first}").status_code == 404
