"""The loggers that a recipe names in `monitor.loggers`, read without importing them."""

from __future__ import annotations

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.part_text import read_settings, split_text
from kinshot.learn.logger import Chosen
from kinshot.learn.loggers import LOGGERS
from kinshot.recipes.ranges import out_of_range
from kinshot.recipes.sections import MonitorConfig

_EXAMPLE = "wandb:project=birds"


def parse_logger(text: str) -> Chosen:
    """A logger's name and all its settings. Raises ConfigError for an unknown name or setting, or a bad value."""
    name, *assignments = split_text(text, ":", "monitor.loggers", _EXAMPLE)
    if name not in LOGGERS.entries:
        raise ConfigError(f"monitor.loggers: unknown logger {name!r}: {suggest(name, LOGGERS.entries)}")
    checked, problems = LOGGERS.check(name, read_settings(text, assignments, "monitor.loggers", _EXAMPLE), f"monitor.loggers, {name}")
    if problems:
        raise ConfigError("; ".join(problems))
    return name, checked


def check_monitor(settings: MonitorConfig) -> list[str]:
    """What is wrong with a recipe's section `monitor`, as messages."""
    problems, names = out_of_range("monitor", settings), []
    for text in settings.loggers:
        try:
            names.append(parse_logger(text)[0])
        except ConfigError as error:
            problems.append(str(error))
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return problems + [f"monitor.loggers: {name} is named twice: keep one" for name in twice]
