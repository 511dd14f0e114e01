"""The first steps of every shipped recipe, and the demo's whole table: the evidence that published tables still stand after a change.

    python -m benchmarks.replay --data data --record before.json     (on the commit before)
    python -m benchmarks.replay --data data --against before.json    (on the changed code, same machine)

Everything goes through the installed commands, so that code of any age can be replayed. A recipe whose records and whose weights
after `--steps` steps are those of the commit before, bit for bit, would come to the same table: there is no need to train it again.
Exit status: 0 where everything is equal, 1 where something moved.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from kinshot.core.atomic import write_json
from kinshot.core.checkpoint_schema import from_schema_1
from kinshot.learn.features import weights_hash

FEW_SHOT = ("grocery_classifier", "grocery_dual_path", "omniglot_classifier", "omniglot_feat", "omniglot_protonet")
PRETRAINED = ("glyphs_demo", "grocery_structure", "manifold", "omniglot_interclr", "omniglot_simclr", "task_topology")
DISTILLED = ("grocery_student", "omniglot_student")
ORDER = (*PRETRAINED, *FEW_SHOT, *DISTILLED)
STARTS = {"omniglot_feat": "omniglot_classifier"}
TEACHERS = {"grocery_student": "grocery_classifier", "omniglot_student": "omniglot_interclr"}
ALL_RECORDS = ["monitor.log_every=1", "monitor.tensorboard=false", "monitor.keep=3", "train.precision=fp32", "train.threads=1"]
DEMO = "demo"


def main() -> int:
    """Replay, then write down or compare."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"some of {', '.join((*ORDER, DEMO))} [default: all]")
    arguments.add_argument("--data", type=Path, required=True, help="folder with omniglot-py and grocery (official layouts)")
    arguments.add_argument("--steps", type=int, default=60, help="steps of each recipe (default %(default)s)")
    arguments.add_argument("--bin", type=Path, default=Path(sys.executable).parent, help="folder of the commands ssl and fewshot")
    arguments.add_argument("--record", type=Path, help="write what was seen to this JSON file")
    arguments.add_argument("--against", type=Path, help="compare with a file that --record wrote")
    given = arguments.parse_args()
    before = json.loads(given.against.read_text(encoding="utf-8")) if given.against else {}
    seen: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in wanted(given.recipes or [*ORDER, DEMO]):
            seen[name] = demo(folder, given.bin) if name == DEMO else replay(name, folder, given)
            print(f"{name:22} {verdict(before[name], seen[name]) if name in before else 'recorded'}", flush=True)
            if given.record:
                write_json(given.record, seen)
    return int(not all(same(before[name], seen[name]) for name in seen if name in before))


def wanted(names: list[str]) -> list[str]:
    """The recipes asked for and those that they start from, in an order in which each comes after these."""
    needed = {*names, *(start for name in names for start in (STARTS.get(name), TEACHERS.get(name)) if start)}
    return [name for name in (*ORDER, DEMO) if name in needed]


def replay(name: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train a recipe up to its checkpoint of step `--steps`: its records by step, and hashes of what the checkpoint holds."""
    command = [*command_of(name, given.bin), name, *settings_of(name, folder, given.data)]
    if name in STARTS:
        command += ["--init", str(reached(folder / STARTS[name]))]
    dry = subprocess.run([*command, "--dry-run", "--json"], capture_output=True, text=True, env=environment())
    if dry.returncode:
        raise SystemExit(f"{' '.join(command)}: {dry.stderr}")
    plan = json.loads(dry.stdout)
    steps = min(given.steps, plan["total_steps"])
    out = folder / name
    command += ["--out", str(out), f"monitor.checkpoint_every={steps / plan['steps_per_epoch']!r}", "-q"]
    last = out / "checkpoints" / f"step-{steps:08d}"
    stopped_at(command, last)
    records: dict[str, dict[str, Any]] = {}
    for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["step"] <= steps:
            records.setdefault(str(record["step"]), {}).update(record)
    return {"records": records, "weights": contents(last)}


def command_of(name: str, place: Path) -> list[str]:
    """The command that trains a recipe."""
    if name in FEW_SHOT:
        return [str(place / "fewshot"), "train"]
    return [str(place / "ssl"), "distill" if name in DISTILLED else "pretrain"]


def settings_of(name: str, folder: Path, data: Path) -> list[str]:
    """What a recipe is told beside what it says."""
    given = list(ALL_RECORDS)
    if name.startswith(("omniglot", "grocery")):
        given.append(f"data.root={(data / 'grocery' if name.startswith('grocery') else data).resolve()}")
    if name in TEACHERS:
        given.append(f"teacher={reached(folder / TEACHERS[name])}")
    return given


def reached(run: Path) -> Path:
    """The checkpoint that a replayed run was asked for: when it was stopped it left another one, of whatever step it had come to."""
    return min((run / "checkpoints").glob("step-*"), key=lambda path: (path.name == "step-00000000", path.name))


def stopped_at(command: list[str], checkpoint: Path) -> None:
    """Run a training until a checkpoint is complete, then stop it."""
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not checkpoint.is_dir():
            time.sleep(0.05)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        message = process.communicate()[1]
    if not checkpoint.is_dir():
        raise SystemExit(f"{' '.join(command)}: no {checkpoint.name}: {message}")


def contents(checkpoint: Path) -> dict[str, str]:
    """A hash of the tensors of each part of a checkpoint: encoder, projector, and of training the method, the optimizer, ...

    Tensors of older checkpoints are under the names that they have today: what was only renamed did not move.
    """
    parts: dict[str, dict[str, Any]] = {}
    schema = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))["schema_version"]
    for path in sorted(checkpoint.glob("*.safetensors")):
        tensors = load_file(path)
        for name, tensor in (from_schema_1(tensors) if path.stem == "training" and schema == 1 else tensors).items():
            part = name.partition("/")[0] if path.stem == "training" else path.stem
            parts.setdefault(part, {})[name] = tensor
    return {part: weights_hash(tensors) for part, tensors in parts.items()}


def demo(folder: Path, place: Path) -> dict[str, Any]:
    """The rows of the table that `make demo` prints."""
    run = folder / "demo_run"
    subprocess.run([place / "ssl", "pretrain", "glyphs_demo", "--out", run, "-q"], check=True, env=environment(), stdout=subprocess.DEVNULL)
    task = ["--data", "glyphs", "--split", "test", "--ways", "5", "--shots", "1,5", "--episodes", "600", "--heads", "prototype"]
    command = [place / "fewshot", "eval", run, *task, "-q", "--json"]
    done = subprocess.run(command, check=True, env=environment(), capture_output=True, text=True)
    names = ("model", "feature", "head", "ways", "shots", "mean", "ci95", "n")
    return {"rows": [{name: row[name] for name in names} for row in json.loads(done.stdout)["rows"]]}


def environment() -> dict[str, str]:
    """One thread, as recipes have it, and a cache of its own for features, so that nothing old is read."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "KINSHOT_CACHE": str(Path(tempfile.gettempdir()) / f"replay-cache-{os.getpid()}")}


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether nothing moved of what was recorded before; parts and figures that are new since are no difference."""
    return not any(before["weights"][part] != after["weights"].get(part) for part in before.get("weights", {})) and not moved(before, after)


def verdict(before: dict[str, Any], after: dict[str, Any]) -> str:
    """One line for people: equal, or what moved first and by how much."""
    if same(before, after):
        if "rows" in after:
            return f"equal ({len(after['rows'])} rows)"
        return f"equal ({sum(map(len, before['records'].values()))} figures of {len(before['records'])} steps, and the state after them)"
    parts = [f"state of {part}" for part, found in before.get("weights", {}).items() if after["weights"].get(part) != found]
    return "MOVED: " + "; ".join([*(parts or ["same state"]), *moved(before, after)])


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """For each figure that moved: where first, and by how much at most."""
    if "rows" in before:
        pairs = [(str(row), *both) for row, both in enumerate(zip(before["rows"], after["rows"], strict=True))]
    else:
        pairs = [(f"step {step}", record, after["records"].get(step, {})) for step, record in before["records"].items()]
    found: dict[str, tuple[str, float]] = {}
    for place, one, two in pairs:
        for name, value in one.items():
            if value != two.get(name):
                first, most = found.get(name, (place, 0.0))
                found[name] = (first, max(most, apart(value, two.get(name))))
    return [f"{name} from {first} on, by {most:.2g} at most" for name, (first, most) in found.items()]


def apart(one: Any, two: Any) -> float:
    """Relative difference of two numbers; infinite for anything else."""
    both = isinstance(one, int | float) and isinstance(two, int | float)
    return abs(one - two) / max(abs(one), abs(two)) if both else math.inf


if __name__ == "__main__":
    sys.exit(main())
