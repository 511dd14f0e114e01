"""Heads of dense episodes, one file each; `SEGMENTERS` finds them by name without importing them."""
