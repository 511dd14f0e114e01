"""Nearest neighbours: `ranking` finds them, exactly and in bounded memory, `proposals` is how, `found` says which of them are kin."""
