"""What a sample is, and what an encoder may know of it."""
