"""The `ssl` command: pretrain encoders, and look at recipes, parts and checkpoints."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from typing import Any

import click

import kinshot
from kinshot.cli.common import Group, run, say, show
from kinshot.core.errors import ConfigError, suggest
from kinshot.recipes.recipe import PARTS, load_recipe, recipe_names, recipe_path

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kinshot.__version__, prog_name="kinshot")
def ssl() -> None:
    """Learn representations without labels."""


@ssl.command(name="pretrain")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder [default: runs/RECIPE].")
@click.option("--resume", default="never", metavar="auto|never|PATH", help="Continue a run: its newest checkpoint, or the one at PATH.")
@click.option("--overwrite", is_flag=True, help="Delete an earlier run in the run folder.")
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps (short for train.device=...).")
@click.option("--seed", type=int, help="Short for seed=....")
@click.option("--dry-run", is_flag=True, help="Build everything, run one step, write nothing.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@JSON
def pretrain_command(
    recipe: str, overrides: tuple[str, ...], out: Path | None, resume: str, overwrite: bool, device: str | None, seed: int | None,
    dry_run: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Pretrain RECIPE: a shipped recipe's name or a YAML file, with settings overridden as KEY=VALUE."""
    extra = [f"train.device={device}"] * (device is not None) + [f"seed={seed}"] * (seed is not None)
    checked = load_recipe(recipe, [*overrides, *extra])
    from kinshot.recipes import pretrain
    from kinshot.recipes.start import Options

    options = Options(out or Path("runs") / checked.name, resume, overwrite, quiet)
    result = pretrain.dry_run(checked, options) if dry_run else pretrain.pretrain(checked, options, (lambda text: None) if quiet else say)
    show(result, as_json, lambda: _lines(result))


@ssl.command(name="list")
@click.argument("pattern", default="*")
@JSON
def list_command(pattern: str, as_json: bool) -> None:
    """List recipes and parts whose name matches PATTERN (wildcards allowed)."""
    pattern = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    found: dict[str, dict[str, str]] = {"recipe": {name: load_recipe(name).description for name in recipe_names()}}
    for registry in PARTS.values():
        found[registry.kind] = {entry.name: entry.summary for entry in registry.entries.values()}
    found = {kind: {n: s for n, s in names.items() if fnmatch.fnmatch(n, pattern)} for kind, names in found.items()}

    def text() -> str:
        blocks = []
        for kind, names in found.items():
            if names:
                width = max(map(len, names))
                blocks.append("\n".join([f"{kind}:", *(f"  {name:<{width}}  {summary}" for name, summary in names.items())]))
        return "\n".join(blocks) or f"nothing matches {pattern}"

    show({"parts": found}, as_json, text)


@ssl.command(name="show")
@click.argument("name")
@JSON
def show_command(name: str, as_json: bool) -> None:
    """Show a recipe (its YAML), or a part (its description and settings)."""
    if name in recipe_names() or name.endswith((".yaml", ".yml")):
        recipe = load_recipe(name)
        show({"recipe": recipe.to_dict()}, as_json, lambda: recipe_path(name).read_text(encoding="utf-8").rstrip())
        return
    entries = [registry.entry(name) for registry in PARTS.values() if name in registry.entries]
    if not entries:
        known = [*recipe_names(), *(n for registry in PARTS.values() for n in registry.names())]
        raise ConfigError(f"nothing is called {name!r}: {suggest(name, known)}")
    entry = entries[0]
    settings = {p.name: {"type": p.annotation, "default": _default(p.default), "help": p.help} for p in entry.parameters.values()}

    def text() -> str:
        rows = [f"  {key}: {s['type']} = {s['default']}\n      {s['help']}" for key, s in settings.items()]
        return "\n".join([entry.docstring.split("\n\nArgs:")[0].split("\nArgs:")[0], "", "settings:", *rows])

    show({"name": name, "module": entry.module, "summary": entry.summary, "settings": settings}, as_json, text)


@ssl.command(name="cp")
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def copy_command(name: str, target: Path, overwrite: bool) -> None:
    """Copy a shipped recipe to TARGET, to edit it."""
    source = recipe_path(name)
    if target.is_dir():
        target = target / source.name
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists: choose another name or add --overwrite")
    from kinshot.core.atomic import write_text

    if not target.parent.is_dir():
        raise ConfigError(f"no folder {target.parent}: create it first")
    write_text(target, source.read_text(encoding="utf-8"))
    say(f"wrote {target}; run it with: ssl pretrain {target}")


@ssl.command(name="validate")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@JSON
def validate_command(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE (with overrides) and print every problem at once, or the resolved recipe."""
    from kinshot.core.config import to_yaml

    checked = load_recipe(recipe, overrides)
    show({"valid": True, "recipe": checked.to_dict()}, as_json, lambda: to_yaml(checked.to_dict()).rstrip())


@ssl.command(name="inspect")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@JSON
def inspect_command(checkpoint: Path, as_json: bool) -> None:
    """Verify CHECKPOINT (or the newest one of a run folder) and say what is in it."""
    from kinshot.recipes.inspect import describe

    result = describe(checkpoint)
    show(result, as_json, lambda: _lines(result))


def _default(value: Any) -> Any:
    from kinshot.core.schema import REQUIRED

    return "required" if value is REQUIRED else value


def _lines(data: dict[str, Any], indent: str = "") -> str:
    rows = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += [f"{indent}{key}:", _lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], str):
            rows += [f"{indent}{key}:", *(f"{indent}  {item}" for item in value)]
        else:
            rows.append(f"{indent}{key}: {value}")
    return "\n".join(row for row in rows if row)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(ssl, argv)


if __name__ == "__main__":
    sys.exit(main())
