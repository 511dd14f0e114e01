"""Where the records of a run go beside its own files, one file each; `LOGGERS` finds them by name without importing them.

A logger is a class built as `(run, *, settings)` (`kinshot.learn.logger`). One that stands on a package that not everybody has says where
it is registered how to install it: `@LOGGERS.register("mine", package="mine", install="pip install mine")`.
"""

from kinshot.core.registry import Registry

LOGGERS = Registry("logger", "kinshot.learn.loggers")
