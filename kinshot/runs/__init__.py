"""A recipe run to a checkpoint, and a finished run read back."""
