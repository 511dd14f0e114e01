"""Recipes: one YAML per reproducible result, and the short functions that wire a recipe to its parts."""
