"""Everything that is measured on checkpoints, and what is written of it."""
