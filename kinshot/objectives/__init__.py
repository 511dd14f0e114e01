"""Pure objective functions of embeddings and of who is kin to whom."""
