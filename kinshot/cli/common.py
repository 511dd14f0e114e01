"""What the commands share: exit codes, error texts, JSON output."""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from kinshot.core.errors import DataError, KinshotError, resource_error, suggest

SCHEMA_VERSION = 1


class Group(click.Group):
    """A command group that names the closest valid command for an unknown one, and lists its commands in sections.

    Args:
        sections: names of commands by the title that they stand below; those of none follow under Commands.
        rest: what `click.Group` takes.
    """

    def __init__(self, *rest: Any, sections: Mapping[str, Sequence[str]] | None = None, **more: Any) -> None:
        super().__init__(*rest, **more)
        self.sections = dict(sections or {})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of the help text."""
        named = {name for names in self.sections.values() for name in names}
        other = [name for name in self.list_commands(ctx) if name not in named]
        for title, names in {**self.sections, "Commands": other}.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            width = formatter.width - 6 - max(map(len, self.list_commands(ctx)))
            rows = [(name, command.get_short_help_str(width)) for name, command in commands if command is not None and not command.hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command. Raises click.UsageError with the closest name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"unknown command {args[0]!r}: {suggest(args[0], self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


def run(command: click.Command, argv: list[str] | None) -> int:
    """Run a command and turn every outcome into an exit code; errors go to stderr without a traceback unless KINSHOT_TRACEBACK is set."""
    try:
        command.main(args=argv, standalone_mode=False)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption):
            _say_setting(error)
        return 2
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return 130
    except KinshotError as error:
        _trace()
        say(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        _leave_stdout()
        return 0
    except Exception as error:  # the outermost border: an internal error must end with code 1 and say what to send us
        _trace()
        if short := resource_error(error):
            say(f"error: {short}")
            return short.exit_code
        if isinstance(error, OSError) and error.filename is not None:
            say(f"error: cannot use {error.filename}: {error.strerror}; check the path, its permissions and the disk")
            return DataError.exit_code
        say(f"internal error: {type(error).__name__}: {error}; set KINSHOT_TRACEBACK=1 for the traceback and report it")
        return 1


@contextmanager
def ended_by_reader() -> Iterator[None]:
    """Inside, lines are printed until there are no more, or whoever reads them has gone, which is an end as good as any."""
    try:
        yield
    except BrokenPipeError:  # which click would make an error of its own
        _leave_stdout()


def _leave_stdout() -> None:
    """Nobody reads it any more: what is still to be flushed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_setting(error: click.NoSuchOption) -> None:
    """Settings are no options: say how the one that was meant is written."""
    from kinshot.recipes.recipe import settings_called

    name = error.option_name.lstrip("-").replace("-", "_").rpartition(".")[2]
    takes_settings = error.ctx is not None and any(parameter.name == "overrides" for parameter in error.ctx.command.params)
    found = settings_called(name) if takes_settings else []
    if found:
        say(f"{name} is a setting of a recipe and no option: write {found[0]}=VALUE, without dashes")


def command_line(program: str) -> str:
    """What was typed, as it can be typed again: `program` is the command's name."""
    return shlex.join([program, *sys.argv[1:]])


def say(text: str) -> None:
    """A message for the person, on stderr."""
    with suppress(OSError):  # a terminal that is gone changes neither the work nor the exit code
        click.echo(text, err=True)


def show(data: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """The result on stdout: one JSON object with a schema version, or text for people."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=1) if as_json else text())


def lines(data: dict[str, Any], indent: str = "") -> str:
    """A nested result as indented text."""
    rows = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += [f"{indent}{key}:", lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], str):
            rows += [f"{indent}{key}:", *(f"{indent}  {item}" for item in value)]
        else:
            rows.append(f"{indent}{key}: {shown(value)}")
    return "\n".join(row for row in rows if row)


def shown(value: Any) -> str:
    """A value for people: fractions with the digits that they have, not those that binary ones add: 44.94 for 44.940000000000005."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(float(f"{value:.10g}") if isinstance(value, float) else value)


def _trace() -> None:
    if os.environ.get("KINSHOT_TRACEBACK"):
        traceback.print_exc()
