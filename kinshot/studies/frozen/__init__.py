"""The field's evaluation of frozen features, a protocol to a file: weighted kNN, a linear probe, low-shot, and their geometry."""
