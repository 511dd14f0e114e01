"""Trained encoders in the forms that other programs read; a new form is one file in `formats`.

A format is a function of a `Subject` that gives `Made`: what is to be written, and how it is opened again to be compared with the encoder.
It says where it is registered which `suffix` its file has, "" where it is a folder, whether it takes a choice of `features`, which programs
do and weights do not, and whether it has a `card` that results stand on.
"""

from __future__ import annotations

from kinshot.core.registry import Registry

EXPORTS = Registry("export format", "kinshot.exports.formats")
