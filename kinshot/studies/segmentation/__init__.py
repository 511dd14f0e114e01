"""Studies of segmentation: episodes over a source, checkpoints measured on them, and images of the user's segmented."""
