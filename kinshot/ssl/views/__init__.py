"""Batched augmentation pipelines, one file each."""
