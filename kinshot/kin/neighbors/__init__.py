"""Nearest neighbours: `ranking` finds them, exactly and in bounded memory, `proposals` is how; `found` says which of them are kin.

`shared` says it of samples with several labels each, `without` where some pairs must not meet.
"""
