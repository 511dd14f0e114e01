"""Pages of what an index finds: images like an image, copies, and images that are like nothing else."""
