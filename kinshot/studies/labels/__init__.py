"""How well frozen encoders do with few labels, and with some of their modalities."""
