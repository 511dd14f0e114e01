"""The foundation: errors, registry, configuration, keyed randomness, checkpoints, the training loop, monitoring."""
