"""Few-shot heads: pure functions over many episodes at once, one file each."""
