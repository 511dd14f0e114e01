"""Objectives of windows, sequences and modalities that are no function of rows and one relation alone: pure functions, one file each.

Relations come from `kinshot.kin`: `windows`, `neighborhood`, `across_modalities`. Whatever is random (a step to predict from, crops,
what is hidden) is drawn by the caller and given.
"""
