"""`ssl report`: its numbers against slow ones, and its page as a parser sees it; runs that are unfinished, moved, or lack something."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import kinshot
from kinshot.cli import ssl
from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.config import to_yaml
from kinshot.datasets import SOURCES
from kinshot.learn.records import read_records
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.job import build
from kinshot.studies.run_report.looked import looked_at, opened
from kinshot.studies.run_report.neighbors import neighbor_strips
from kinshot.studies.run_report.page import TITLES
from kinshot.studies.run_report.retrieval import KS, chance_recall
from kinshot.studies.run_report.views import made_views
from tests.pages import Outline, check_page
from tests.run_reports import CPU, QUICK, Made, clustered, made, trained, write_hostile
from tests.tiny import TINY


def report(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> Any:
    """What the command prints with --json, or what it says where it fails."""
    capsys.readouterr()
    got = ssl.main(["report", *map(str, args), "--device", "cpu", *["--json"] * (code == 0)])
    said = capsys.readouterr()
    assert got == code, said.err
    return json.loads(said.out) if code == 0 else said.err


def text_of(outline: Outline) -> str:
    return " ".join(" ".join(outline.words).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of SimCLR on digits, and of InterCLR on folders whose names are hostile, two of whose images are copies."""
    place = tmp_path_factory.mktemp("run_report")
    write_hostile(place / "data")
    trained(place / "simclr")
    clustered(place / "interclr", place / "data")
    return place


@pytest.fixture(scope="module")
def simclr(place: Path) -> Made:
    return made(place / "simclr", place / "pages", "--samples", "120")


@pytest.fixture(scope="module")
def interclr(place: Path) -> Made:
    return made(place / "interclr", place / "clustered")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, which take longest, for tests of something else."""
    monkeypatch.setattr("kinshot.studies.run_report.write.figures_of", lambda content: [])


def test_the_page_is_whole_and_says_every_part(simclr: Made) -> None:
    outline = check_page(simclr.text)
    words = text_of(outline)
    for said in (*TITLES.values(), "step 22 of 22"):
        assert said in words
    assert len(simclr.text) < 4_000_000
    assert "120 of 355 samples" in words
    assert "train/loss" in words
    assert words.count("epoch 2, view 1") == 1


def test_curves_are_the_records(place: Path, simclr: Made) -> None:
    curves = {curve["tag"]: curve for curve in simclr.numbers["curves"]}
    records = read_records(place / "simclr" / "metrics.jsonl")
    assert next(iter(curves)) == "train/loss"
    assert set(curves) == {tag for record in records for tag in record if tag not in ("step", "epoch")}
    for tag, curve in curves.items():
        assert list(zip(curve["steps"], curve["values"], strict=True)) == [(r["step"], r[tag]) for r in records if tag in r]


def test_views_are_those_that_training_saw(place: Path) -> None:
    recipe = load_recipe(str(TINY), QUICK)
    job = build(recipe, SOURCES.build("digits", settings=dict(recipe.data.settings)))
    samples, indices = next(iter(job.batches(1, 0)))
    batch = job.make_batch(samples, indices, seed=recipe.seed, epoch=1, step=11)
    seen = [(job.input.denormalize(view).clamp(0, 1) * 255).round().to(torch.uint8) for view in batch.views]
    looked = looked_at(opened(place / "simclr", "backbone", CPU), None, 20)
    for mine, view in zip(made_views(looked, indices.numpy(), 1), seen, strict=True):
        assert torch.equal(mine, view)


def test_neighbors_and_retrieval_are_those_of_loops(place: Path, simclr: Made) -> None:
    source = SOURCES.build("digits", settings={"split": "test", "size": 16})
    rows = looked_at(opened(place / "simclr", "backbone", CPU), None, 120).rows
    z = kinshot.load(place / "simclr").embed(source.load(rows))["backbone"].double()
    z = (z / z.norm(dim=1, keepdim=True)).detach().numpy()
    near = z @ z.T
    np.fill_diagonal(near, -2)
    order, labels, at = np.argsort(-near, axis=1, kind="stable"), source.labels[rows], {row: i for i, row in enumerate(rows.tolist())}
    for strip in simclr.numbers["strips"]["strips"]:
        query, found = at[strip["index"]], [at[one["index"]] for one in strip["nearest"]]
        assert near[query, found] == pytest.approx(np.sort(near[query])[::-1][:10], abs=1e-5)
        assert [one["kin"] for one in strip["nearest"]] == (labels[found] == labels[query]).tolist()
    retrieval = simclr.numbers["retrieval"]
    same = labels[order] == labels[:, None]
    rng = np.random.default_rng(0)
    for place_of_k, k in enumerate(KS):
        expected = {"recall": 100 * same[:, :k].any(1).mean(), "precision": 100 * same[:, :k].mean()}
        for metric, value in expected.items():
            assert retrieval["lines"][metric]["this run"][place_of_k]["mean"] == pytest.approx(value, abs=0.3)
        others = [np.delete(labels, q) == labels[q] for q in range(120)]
        drawn = [rng.choice(kin, k, replace=False).any() for kin in others for _ in range(20)]
        assert retrieval["chance"]["recall"][place_of_k] == pytest.approx(100 * np.mean(drawn), abs=3)


def test_copies_are_never_neighbors_and_clusters_are_the_methods(
    place: Path, interclr: Made, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    found = interclr.numbers
    assert found["strips"]["copied"] == 2
    looked = looked_at(opened(place / "interclr", "backbone", CPU), None, 2000)
    (twin,) = [rows for c in range(looked.copies.max() + 1) if len(rows := set(np.flatnonzero(looked.copies == c).tolist())) > 1]
    monkeypatch.setattr("kinshot.studies.run_report.neighbors.STRIPS", 100)
    strips = neighbor_strips(looked).strips
    assert {strip.index for strip in strips} == set(range(49))
    for strip in strips:
        near = [one.index for one in strip.nearest]
        assert len(set(near)) == 10
        assert strip.index not in near
        assert strip.index not in twin or not twin & set(near)
    training = load_checkpoint(place / "interclr").training
    labels, features, centroids = (training[f"method/bank.{name}"].numpy() for name in ("labels", "features", "centroids"))
    clusters = found["clusters"]
    assert clusters["kind"] == "pseudo-classes"
    assert clusters["sizes"] == sorted(np.bincount(labels, minlength=5).tolist(), reverse=True)
    for cluster in clusters["shown"]:
        members = np.flatnonzero(labels == cluster["number"])
        distance = ((features[members] - centroids[cluster["number"]]) ** 2).sum(1)
        assert cluster["size"] == len(members)
        assert sorted(cluster["nearest"]) == sorted(members[np.argsort(distance, kind="stable")[:8]].tolist())
        assert cluster["share"] == pytest.approx(np.bincount(looked.source.labels[members]).max() / len(members))


def test_hostile_names_are_text(interclr: Made) -> None:
    outline = check_page(interclr.text)  # which finds no script
    assert "<script" not in interclr.text
    assert "<script>alert(1)<\u2215script>" in interclr.numbers["labels"]
    assert "<script>alert(1)<\u2215script>" in " ".join(outline.words)
    assert "a&b \"c\" 'd'" in " ".join(outline.words)


def test_the_same_run_gives_the_same_page(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ssl", "report"])
    pages = []
    for _ in range(2):
        assert ssl.main(["report", str(place / "interclr"), "--out", str(tmp_path), "-q", "--samples", "20", "--device", "cpu"]) == 0
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert b"20 of 49 samples, drawn evenly by the run" in pages[0]


@pytest.mark.usefixtures("plain")
def test_a_run_without_labels(tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["data=folder", f"data.root={place / 'data'}", "data.size=16", "data.channels=1", "data.labels=none", "train.batch_size=16"]
    trained(tmp_path / "run", *data)
    found = report(capsys, tmp_path / "run", "--out", tmp_path / "page.html")
    assert found["retrieval"] is None
    assert found["labels"] == []
    assert found["clusters"]["kind"] == "k-means"
    assert all(near["kin"] is None for strip in found["strips"]["strips"] for near in strip["nearest"])
    words = text_of(Outline((tmp_path / "page.html").read_text(encoding="utf-8")))
    assert "The samples have no labels" in words
    assert "views find each other" in words
    assert "The run keeps no clusters of these samples" in words
    labelled = report(capsys, tmp_path / "run", "--out", tmp_path / "page.html", "--data", f"folder:{place / 'data'},labels=folders")
    assert labelled["retrieval"]["queries"] == 49


@pytest.mark.usefixtures("plain")
def test_prototypes_are_clusters_of_whatever_is_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "run", "method=swav", "train.epochs=1")
    found = report(capsys, tmp_path / "run", "--out", tmp_path / "page.html", "--samples", "50")["clusters"]
    looked = looked_at(opened(tmp_path / "run", "projector", CPU), None, 50)
    z, prototypes = looked.features.numpy(), load_checkpoint(tmp_path / "run").training["method/prototypes.weight"].numpy()
    cosine = (z @ prototypes.T) / np.linalg.norm(z, axis=1)[:, None] / np.linalg.norm(prototypes, axis=1)
    sizes = np.bincount(cosine.argmax(1), minlength=len(prototypes))
    assert found["kind"] == "prototypes"
    assert found["sizes"] == sorted(sizes.tolist(), reverse=True)
    for cluster in found["shown"]:
        assert cluster["size"] == sizes[cluster["number"]]
        members = np.flatnonzero(cosine.argmax(1) == cluster["number"])
        assert set(cluster["nearest"]) <= set(looked.rows[members].tolist())


@pytest.mark.usefixtures("plain")
def test_an_unfinished_run_says_how_far_it_got(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = next(path for path in sorted((place / "simclr" / "checkpoints").iterdir()) if "22" not in path.name)
    run = tmp_path / "stopped"
    shutil.copytree(early, run / "checkpoints" / early.name)
    lines = (place / "simclr" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])  # cut short by a kill
    (run / "diverged.json").write_text('{"step": 9, "reason": "the loss is <b>nan</b>"}')
    found = report(capsys, run, "--out", tmp_path / "page.html", "--samples", "40")
    assert "NOT finished" in found["reached"]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    words = text_of(Outline(text))
    assert "Training did not get to its end: step" in words
    assert "Training diverged at step 9: the loss is <b>nan</b>" in words
    assert "that was not finished" in words
    assert len(found["curves"][0]["steps"]) == 5


@pytest.mark.usefixtures("plain")
def test_missing_and_damaged_records(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = max((place / "simclr" / "checkpoints").iterdir())
    shutil.copytree(checkpoint, tmp_path / "alone")
    found = report(capsys, tmp_path / "alone", "--out", tmp_path / "page.html", "--samples", "40")
    assert found["curves"] == []
    assert "no metrics.jsonl beside the checkpoint" in found["absent"]["curves"]
    assert found["gauges"]
    shutil.copytree(place / "simclr", tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("rubbish\n")
    found = report(capsys, tmp_path / "run", "--out", tmp_path / "page.html", "--samples", "40")
    assert "line 1 is not a record" in found["absent"]["curves"]
    Outline((tmp_path / "page.html").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("plain")
def test_data_that_moved_is_named_or_done_without(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_checkpoint(place / "interclr").config
    run = tmp_path / "run"
    shutil.copytree(place / "interclr", run)
    gone = {**config, "data": {**config["data"], "root": str(tmp_path / "gone")}}
    _with_config(run, gone)
    found = report(capsys, run, "--out", tmp_path / "page.html")
    assert "data cannot be read" in found["absent"]["map"]
    assert found["map"] is None
    assert found["gauges"]
    words = text_of(Outline((tmp_path / "page.html").read_text(encoding="utf-8")))
    assert "--data NAME:FOLDER" in words
    shutil.copytree(place / "data", tmp_path / "moved")
    found = report(capsys, run, "--out", tmp_path / "page.html", "--data", f"folder:{tmp_path / 'moved'}")
    assert found["clusters"]["kind"] == "pseudo-classes"  # the very samples, with the run's own settings
    assert found["warnings"] == []
    other = next((tmp_path / "moved").iterdir())
    for path in sorted(other.iterdir())[:6]:
        path.unlink()
    found = report(capsys, run, "--out", tmp_path / "page.html", "--data", f"folder:{tmp_path / 'moved'}")
    assert found["clusters"]["kind"] == "k-means"
    assert "other samples than those that the run was trained on" in found["warnings"][0]


def _with_config(run: Path, config: dict[str, Any]) -> None:
    """The newest checkpoint with another recipe, as if the run had been trained so."""
    import hashlib

    checkpoint = max((run / "checkpoints").iterdir())
    data = to_yaml(config).encode()
    (checkpoint / "config.yaml").write_bytes(data)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"]["config.yaml"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.usefixtures("plain")
def test_mistakes_cost_nothing_and_say_what_to_do(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for args, code, expected in (
        ([place / "simclr", "--out", tmp_path / "mine.html"], 2, "add --overwrite"),
        ([place / "simclr", "--out", tmp_path / "file"], 2, "is a file"),
        ([place / "simclr", "--samples", "1"], 2, "at least 3"),
        ([place / "simclr", "--feature", "backbon"], 2, "backbone"),
        ([place / "simclr", "--data", "digit"], 2, "digits"),
        ([place / "simclr", "--data", f"folder:{tmp_path / 'none'}"], 3, "none"),
        ([tmp_path / "norun"], 3, "norun"),
    ):
        said = report(capsys, *args, *([] if "--out" in args else ["--out", tmp_path / "new.html"]), code=code)
        assert expected in said
        assert "Traceback" not in said
    assert (tmp_path / "mine.html").read_text() == "mine"
    assert not (tmp_path / "new.html").exists()
    report(capsys, place / "simclr", "--out", tmp_path / "mine.html", "--overwrite", "--samples", "30")
    report(capsys, place / "simclr", "--out", tmp_path / "mine.html", "--samples", "30")  # an earlier page of a run


@pytest.mark.usefixtures("plain")
def test_samples_without_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{c:.3f},k{i % 3}" for i, (a, b, c) in enumerate(rng.normal(size=(60, 3)) + np.arange(60)[:, None] % 3)]
    Path("t.csv").write_text("\n".join(["a,b,c,kind", *rows]) + "\n")
    table = ["data=table", "data.root=t.csv", "data.label=kind", "views=feature_noise", "encoder=mlp", "encoder.widths=[8]"]
    trained(Path("run"), *table, "train.batch_size=16")
    found = report(capsys, "run", "--out", "page.html")
    assert "have no pictures to show" in found["absent"]["views"]
    assert found["map"]
    assert found["strips"]
    assert found["retrieval"]["queries"] == 60
    text = Path("page.html").read_text(encoding="utf-8")
    assert "which have no pictures" in text_of(Outline(text))
    assert text.count("data:image/png") < 200


# -- maps and chance


def test_chance_is_that_of_draws_without_replacement() -> None:
    kin, others = np.array([1, 3, 5]), np.array([9, 9, 7])
    for k, percent in zip([1, 2, 5], chance_recall(kin, others, [1, 2, 5]), strict=True):
        assert percent == pytest.approx(100 * np.mean(1 - stats.hypergeom.pmf(0, others, kin, k)))


def test_maps_keep_what_they_say(simclr: Made, place: Path) -> None:
    found = simclr.numbers["map"]
    looked = looked_at(opened(place / "simclr", "backbone", CPU), None, 120)
    z = torch.nn.functional.normalize(looked.features.double(), dim=1).numpy()
    assert [point["index"] for point in found["points"]] == looked.rows.tolist()
    assert [point["label"] for point in found["points"]] == looked.source.labels[looked.rows].tolist()
    values, vectors = np.linalg.eigh(np.cov(z.T))
    assert found["explained"] == pytest.approx(values[-2:].sum() / values.sum())
    near = np.argsort(-(z @ z.T) + 9 * np.eye(len(z)), axis=1)[:, :10]
    for kind in ("pca", "tsne"):
        flat = np.array([point[kind] for point in found["points"]])
        assert flat.min() >= 0
        assert flat.max() <= 1
        apart = np.linalg.norm(flat[:, None] - flat[None], axis=2) + 9 * np.eye(len(flat))
        kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, np.argsort(apart, axis=1)[:, :10], strict=True)])
        assert found["kept"][kind] == pytest.approx(kept, abs=0.02)  # places are rounded
    line = (z - z.mean(0)) @ vectors[:, -1]
    assert abs(np.corrcoef(line, [point["pca"][0] for point in found["points"]])[0, 1]) > 0.999
