"""`ssl distill`: the wrapper around a method, teachers of every kind, resuming, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.kin.kin import Known
from kinshot.learn.features import weights_hash
from kinshot.learn.learner import Learner
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.teacher import Taught, Teacher, converted
from kinshot.objectives.distillation.kd import kd
from kinshot.objectives.distillation.rkd_distance import rkd_distance
from kinshot.recipes.distill import DistillSettings, distill_terms, parse_loss
from kinshot.recipes.recipe import load_recipe, parse
from kinshot.runs.job import build
from kinshot.runs.load import load
from kinshot.runs.start import Options
from kinshot.runs.teachers import Teachers, load_teacher
from kinshot.runs.terms import terms_of
from kinshot.runs.train import train_recipe
from kinshot.samples.pixels import PixelSpec
from kinshot.ssl.methods.simclr import SimCLR
from kinshot.ssl.methods.student import Student
from tests.steps import loss_of, model_of
from tests.tiny import TINY, result, run

STUDENT = Path(__file__).parent / "tiny_student.yaml"
SPEC = PixelSpec.square(1, 16, (0.3,), (0.4,))
CONTEXT = RunContext(64, 8, 8, 16, 0)


def quiet(recipe, out: Path, resume: str = "never") -> dict:
    return train_recipe(recipe, Options(out, resume, quiet=True), lambda text: None)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run without labels."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    quiet(load_recipe(str(TINY), ["monitor.tensorboard=false", "monitor.knn_every=0"]), out)
    return out


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with a classifier."""
    out = tmp_path_factory.mktemp("classifier") / "run"
    overrides = ["method=classifier", "views.views=1", "monitor.tensorboard=false", "monitor.knn_every=0"]
    quiet(load_recipe(str(TINY), overrides), out)
    return out


def conv(width: int, seed: int = 0) -> nn.Module:
    return build_encoder("conv4", {"width": width}, SPEC, seed=seed)


def frozen(width: int = 6, seed: int = 5, spec: PixelSpec = SPEC) -> Teacher:
    encoder = build_encoder("conv4", {"width": width}, spec, seed=seed)
    return Teacher(f"frozen {seed}", Model(encoder, nn.Linear(width, 3)), spec, weights_hash(encoder.state_dict()))


def images(count: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


class Given(Teachers):
    """Teachers that are there already."""

    def ready(self) -> None:
        """What they say was given."""


def wrap(method: Method, losses: tuple[str, ...], teachers: list[Taught], *, task: float = 1.0, view: str = "clean") -> Learner:
    names = tuple(taught.teacher.name for taught in teachers)
    settings = DistillSettings(names, losses, task, view)
    at_work = {(taught.teacher.name, view, False, (), ()): taught for taught in teachers}
    given = Given(None, SPEC, torch.device("cpu"), names, at_work)
    terms = terms_of(distill_terms(settings), method, Known(CONTEXT, teacher=given.word), given, SPEC, "student")
    return Learner(method, terms, CONTEXT, task=task, teachers=given.fingerprints())


def student(width: int = 4, projector: nn.Module | None = None, **settings: int) -> Student:
    return Student(model_of(conv(width), projector), CONTEXT, **settings)


def test_loss_is_the_weighted_sum_of_the_methods_own_and_the_teachers() -> None:
    torch.manual_seed(0)
    base = SimCLR(model_of(conv(4), nn.Linear(4, 3)), CONTEXT)
    one = frozen()
    clean = {"backbone": torch.randn(64, 6), "projector": torch.randn(64, 3)}
    losses = ("rkd_distance:weight=25", "kd:weight=2:student=projector:teacher=projector")
    method = wrap(base, losses, [Taught(one, SPEC, cached=clean)], task=0.5)
    views, ids = [images(8, 1), images(8, 2)], torch.arange(8) * 3
    found = loss_of(method, views, ids, 0)
    own = loss_of(base, views, ids, 0)["loss"]
    z = base.encoder(torch.cat(views))
    rows = torch.cat([ids, ids])
    relational, logits = rkd_distance(z, clean["backbone"][rows]), kd(base.projector(z), clean["projector"][rows])
    torch.testing.assert_close(found["loss"], 0.5 * own + 25 * relational + 2 * logits)
    torch.testing.assert_close(found["rkd_distance"], relational.detach())
    assert found["kd"].requires_grad is False


def test_weight_zero_leaves_the_methods_gradient_bit_for_bit() -> None:
    def gradients(wrapped: bool) -> list[Tensor]:
        base = SimCLR(model_of(conv(4), nn.Linear(4, 3, bias=False)), CONTEXT)
        method = wrap(base, ("rkd_angle:weight=0",), [Taught(frozen(), SPEC, cached={"backbone": torch.randn(64, 6)})]) if wrapped else base
        torch.manual_seed(3)
        base.projector.weight.data.normal_()
        loss_of(method, [images(8, 1), images(8, 2)], torch.arange(8), 0)["loss"].backward()
        return [p.grad for p in base.encoder.parameters()]

    for mine, alone in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(mine, alone)


def test_teachers_that_run_on_clean_samples_say_what_was_cached() -> None:
    one, samples = frozen(), images(64)
    cached = one.outputs(samples, ["backbone"])
    ids = torch.arange(8) * 7
    views = [images(8, 3)]

    def value(taught: Taught, *extra: Tensor) -> Tensor:
        method = wrap(student(), ("rkd_distance",), [taught])
        assert method.needs_clean is bool(extra)
        return loss_of(method, [*views, *extra], ids, 0)["loss"]

    torch.testing.assert_close(value(Taught(one, SPEC, cached=cached)), value(Taught(one, SPEC), samples[ids]))


def test_view_same_shows_the_teacher_what_the_student_sees() -> None:
    one = frozen()
    method = wrap(student(), ("rkd_distance",), [Taught(one, SPEC, "same")], view="same")
    x = images(8, 3)
    expected = rkd_distance(method.model.encoder(x), one.outputs(x, ["backbone"])["backbone"])
    torch.testing.assert_close(loss_of(method, [x], torch.arange(8), 0)["rkd_distance"], expected.detach())
    assert not method.needs_clean


def test_several_teachers_are_averaged_and_of_picks_one() -> None:
    taught = [Taught(frozen(seed=seed), SPEC, cached={"backbone": torch.randn(64, 6)}) for seed in (5, 6)]
    ids, x = torch.arange(8), images(8, 3)

    def value(loss: str) -> Tensor:
        return loss_of(wrap(student(), (loss,), taught), [x], ids, 0)["loss"].detach()

    torch.testing.assert_close(value("rkd_distance"), (value("rkd_distance:of=1") + value("rkd_distance:of=2")) / 2)
    assert float(value("rkd_distance:of=1")) != float(value("rkd_distance:of=2"))


def test_each_teacher_has_its_own_queue() -> None:
    taught = [Taught(frozen(seed=seed), SPEC, cached={"projector": torch.randn(64, 3)}) for seed in (5, 6)]
    method = wrap(student(projector=nn.Linear(4, 3)), ("seed:student=projector:teacher=projector:size=16",), taught)
    loss_of(method, [images(8, 3)], torch.arange(8), 0)
    method.after_step(0)
    keys = [term.objective.queue.keys[:8] for term in method.terms]
    for one, found in zip(taught, keys, strict=True):
        torch.testing.assert_close(found, nn.functional.normalize(one.cached["projector"][:8]))


def test_a_module_of_the_encoder_can_teach_a_module_of_the_student() -> None:
    one = frozen()
    method = wrap(student(), ("attention_transfer:student=blocks.1:teacher=blocks.1",), [Taught(one, SPEC)])
    assert method.needs_clean
    loss = loss_of(method, [images(8, 1), images(8, 1)], torch.arange(8), 0)["loss"]
    loss.backward()
    touched = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in method.model.encoder.parameters()]
    assert touched[:2] == [True, True]
    assert touched[-1] is False  # blocks after the tap are not taught


def test_teacher_stays_out_of_the_state_and_does_not_move(teacher: Path) -> None:
    job = build(load_recipe(str(STUDENT), [f"teacher={teacher}", "distill.view=same"]), _digits())
    before = weights_hash(load(teacher).state_dict())
    learner = job.run.learner
    frozen_one = learner.terms[0].kin._word.taught.teacher.model
    learner.train()
    assert not frozen_one.training
    known = {id(p) for p in learner.parameters()}
    assert known.isdisjoint({id(p) for p in frozen_one.parameters()})
    assert not any("taught" in name or "heads" in name for name in learner.state_dict())
    x = images(32, 2)
    loss_of(learner, [x], torch.arange(32), 0)["loss"].backward()
    assert weights_hash(frozen_one.state_dict()) == before
    assert all(p.grad is None for p in frozen_one.parameters())


def _digits():
    from kinshot.datasets import SOURCES

    return SOURCES.build("digits", settings={"split": "test", "size": 16})


def test_normalisation_of_each_side_is_its_own() -> None:
    pixels = torch.rand(2, 1, 16, 16)
    other = PixelSpec.square(1, 16, (0.7,), (0.2,))
    torch.testing.assert_close(converted((pixels - 0.3) / 0.4, SPEC, other, False), (pixels - 0.7) / 0.2)
    colour = PixelSpec.square(3, 32, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    assert converted((pixels - 0.3) / 0.4, SPEC, colour, True).shape == (2, 3, 32, 32)


def test_command_trains_evaluates_and_goes_on_for_generations(teacher: Path, tmp_path: Path) -> None:
    done = result(run("ssl", "distill", STUDENT, f"teacher={teacher}", "--out", "s", "--generations", "2", "--json", "-q", cwd=tmp_path))
    assert done["out"] == "s/generation-2"
    second = parse(load_checkpoint(tmp_path / "s/generation-2").config, "")
    assert second.distill.teachers == ("s/generation-1",)
    record = [json.loads(line) for line in (tmp_path / "s/generation-1/metrics.jsonl").read_text().splitlines()]
    terms = [line["train/rkd_angle"] for line in record if "train/loss" in line]
    assert terms
    assert all(0 < term < 1 for term in terms)  # recorded beside the total wherever that is
    args = ["--data", "digits", "--split", "test", "--ways", "2", "--episodes", "20", "--json"]
    found = run("fewshot", "eval", "s/generation-1", *args, cwd=tmp_path)
    made = result(found)["pretrained_by"]
    assert made[-1].startswith("ssl distill")


def test_distillation_with_labels_and_logits(classifier: Path, tmp_path: Path) -> None:
    overrides = [
        f"teacher={classifier}",
        "method=classifier",
        "distill.losses=[kd:weight=0.9:student=logits:teacher=logits]",
        "distill.task=0.1",
    ]
    recipe = load_recipe(str(STUDENT), overrides)
    quiet(recipe, tmp_path / "s")
    assert "logits" in load_teacher(str(tmp_path / "s"), (), (), SPEC).model.names()  # a student can teach in turn


@pytest.mark.parametrize(
    "losses", [["seed:student=projector:teacher=projector:size=48"], ["crd:size=48", "simreg"], ["compress:variant=2q:size=48"]]
)
def test_resumed_run_equals_one_that_never_stopped(losses: list[str], teacher: Path, tmp_path: Path) -> None:
    overrides = [f"teacher={teacher}", f"distill.losses={json.dumps(losses)}", "monitor.keep=100", "monitor.tensorboard=false"]
    recipe = load_recipe(str(STUDENT), overrides)
    quiet(recipe, tmp_path / "whole")
    points = sorted((tmp_path / "whole/checkpoints").iterdir())
    for point in (points[0], points[len(points) // 2]):
        quiet(recipe, tmp_path / point.name, resume=str(point))
        for part in ("encoder", "training"):
            mine, whole = (load_checkpoint(tmp_path / name).tensors for name in (point.name, "whole"))
            assert weights_hash(mine[part]) == weights_hash(whole[part])


def test_a_teacher_may_move_between_start_and_resume(teacher: Path, tmp_path: Path) -> None:
    overrides = ["distill.losses=[rkd_distance]", "monitor.keep=100", "monitor.tensorboard=false"]
    quiet(load_recipe(str(STUDENT), [f"teacher={teacher}", *overrides]), tmp_path / "whole")
    point = min((tmp_path / "whole/checkpoints").iterdir())
    shutil.copytree(teacher, tmp_path / "elsewhere")
    quiet(load_recipe(str(STUDENT), [f"teacher={tmp_path / 'elsewhere'}", *overrides]), tmp_path / "moved", resume=str(point))
    mine, whole = (weights_hash(load_checkpoint(tmp_path / name).tensors["encoder"]) for name in ("moved", "whole"))
    assert mine == whole


def test_resuming_with_another_teacher_is_refused(teacher: Path, classifier: Path, tmp_path: Path) -> None:
    moved = tmp_path / "teacher"
    shutil.copytree(teacher, moved)
    recipe = load_recipe(str(STUDENT), [f"teacher={moved}", "monitor.tensorboard=false"])
    quiet(recipe, tmp_path / "s")
    point = min((tmp_path / "s/checkpoints").iterdir())
    shutil.rmtree(moved)
    shutil.copytree(classifier, moved)
    with pytest.raises(CheckpointError, match="teachers have other weights"):
        quiet(recipe, tmp_path / "again", resume=str(point))


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        ([], 2, "add teacher=CHECKPOINT"),
        (["teacher=nowhere"], 3, "no checkpoint nowhere"),
        (["teacher=T", "teacher=T"], 2, "given 2 times: name several in one list"),
        (["teacher=a,b"], 2, r"several as teacher=\[a, b\]"),
        (["teacher=T", "data.size=20"], 2, "1 x 16 x 16"),
        (["teacher=T", "distill.losses=[rkd_angel]"], 2, "did you mean 'rkd_angle'"),
        (["teacher=T", "distill.losses=[rkd_angle:weigth=2]"], 2, "did you mean 'weight'"),
        (["teacher=T", "distill.losses=[rkd_angle:of=2]"], 2, "there are 1 teachers"),
        (["teacher=T", "distill.losses=[rkd_angle:teacher=blocks.9]"], 2, "no output 'blocks.9'"),
        (["teacher=T", "distill.losses=[rkd_angle:student=stem]"], 2, "student has no output 'stem'"),
        (["teacher=T", "distill.losses=[kd:student=logits:teacher=projector]"], 2, "has no logits"),
        (["teacher=T", "distill.losses=[kd:teacher=logits]"], 2, "has no logits"),
        (["teacher=T", "distill.losses=[kd]"], 2, "equally wide"),
        (["teacher=T", "distill.losses=[attention_transfer]"], 2, "attention_transfer"),
        (["teacher=T", "distill.losses=[]"], 2, "needs a loss"),
        (["distill.losses=[]"], 2, "no loss of its own"),
        (["teacher=torchvision:resnet18:weights.pth"], 3, "no file weights.pth"),
        (["teacher=torchvision:resnet18:weights.safetensors"], 3, "no file weights.safetensors"),
        (["teacher=torchvision:resnet19:weights.safetensors"], 2, "did you mean 'resnet1"),
        (["teacher=T", "train.batch_size=1"], 2, "train.batch_size"),
    ],
)
def test_bad_input(overrides: list[str], code: int, words: str, teacher: Path, tmp_path: Path) -> None:
    given = [text.replace("teacher=T", f"teacher={teacher}") if text == "teacher=T" else text for text in overrides]
    with pytest.raises((ConfigError, CheckpointError), match=words.replace("(", r"\(")) as error:
        quiet(load_recipe(str(STUDENT), given), tmp_path / "s")
    assert error.value.exit_code == code
    assert not (tmp_path / "s").exists()


def test_command_says_which_command_a_recipe_belongs_to(teacher: Path, tmp_path: Path) -> None:
    wrong = run("ssl", "pretrain", STUDENT, f"teacher={teacher}", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "ssl distill" in wrong.stderr
    other = run("ssl", "distill", TINY, cwd=tmp_path)
    assert other.returncode == 2
    assert "ssl pretrain" in other.stderr


def test_adapt_shows_a_teacher_images_of_its_own_size(teacher: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(STUDENT), [f"teacher={teacher}", "data.size=20", "distill.adapt=true", "train.epochs=1"])
    quiet(recipe, tmp_path / "s")
    assert load(tmp_path / "s").input.size == 20


def test_loss_text() -> None:
    choice = parse_loss("kd:weight=0.9:student=logits:temperature=2")
    assert (choice.name, choice.settings, choice.place.weight, choice.place.student) == ("kd", {"temperature": 2.0}, 0.9, "logits")


def test_factors_scale_the_encoder_and_measure_puts_teacher_and_student_side_by_side(teacher: Path, tmp_path: Path) -> None:
    args = ["distill", STUDENT, f"teacher={teacher}", "train.epochs=1", "--width", "0.5", "--depth", "0.75", "--out", "s", "-q"]
    assert run("ssl", *args, cwd=tmp_path).returncode == 0
    assert parse(load_checkpoint(tmp_path / "s").config, "").encoder.settings | {"ceil_mode": True} == {
        "width": 2, "depth": 3, "ceil_mode": True,
    }  # fmt: skip
    tasks = ["--data", "digits", "--split", "test", "--ways", "2", "--shots", "1", "--episodes", "20", "--repeats", "3"]
    found = run("ssl", "measure", f"teacher={teacher}", "student=s", *tasks, "--plot", "size.png", "-q", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "teacher" in found.stdout
    assert "student" in found.stdout
    assert (tmp_path / "size.png").read_bytes().startswith(b"\x89PNG")


def test_two_views_show_the_student_what_belongs_together() -> None:
    cached = {"backbone": torch.randn(64, 6)}
    method = wrap(student(views=2), ("rkd_distance:unit=both",), [Taught(frozen(), SPEC, cached=cached)])
    views, ids = [images(8, 1), images(8, 2)], torch.arange(8) * 5
    z, told = method.model.encoder(torch.cat(views)), cached["backbone"][torch.cat([ids, ids])]
    expected = rkd_distance(nn.functional.normalize(z), nn.functional.normalize(told))
    torch.testing.assert_close(loss_of(method, views, ids, 0)["loss"], expected)


def test_structure_stands_beside_distillation(teacher: Path, tmp_path: Path) -> None:
    overrides = [f"teacher={teacher}", "graph=labels", "structure.weight=0.25", "structure.loss=multi_similarity", "monitor.log_every=1"]
    quiet(load_recipe(str(STUDENT), [*overrides, "train.epochs=1", "monitor.tensorboard=false"]), tmp_path / "s")
    lines = [json.loads(line) for line in (tmp_path / "s/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    assert steps
    for line in steps:
        parts = 0.25 * line["train/structure"] + line["train/rkd_distance"] + 2 * line["train/rkd_angle"]
        assert line["train/loss"] == pytest.approx(parts + 0.75 * line["train/task"], rel=1e-4)
