"""A page on this machine to teach a classifier and to try it."""
