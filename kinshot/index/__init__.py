"""An index of a folder of images: their features, kept up to date, and what is found by them.

`layout`, `shards` and `table` are what lies on the disk, `looking`, `parts` and `building` make it, `opened` reads it; `nearest`, `copies`
and `strangers` are what is asked of features: the nearest, near duplicates, and what is like nothing else.
"""
