"""Sources of kinship that a recipe can name beside an objective, one file each."""
