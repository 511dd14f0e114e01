"""Who is kin to whom: relations over a batch, a queue or a bank, and graphs over a whole data set (`graph`, free of torch)."""
