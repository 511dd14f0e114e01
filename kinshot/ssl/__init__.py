"""Learning without labels: methods, one file each, and their parts.

The folder is called `ssl`, the import is always `kinshot.ssl`: a top-level `ssl` would replace Python's own module.
"""
