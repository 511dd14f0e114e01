"""The audit of metric learning: what papers claim, tried at small scale, each claim a comparison of runs with the same seeds.

A file NAME.yaml of this folder is one *task*: data, what all arms share, how a run is measured, the arms, and the claims about them.
`plan` reads the files, `runs` trains and measures what is missing, `measures` says what a run is worth, `verdicts` compares.
"""
