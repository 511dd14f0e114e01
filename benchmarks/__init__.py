"""Measurements of speed against other libraries; run from the repository root, see README.md."""
