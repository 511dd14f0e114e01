"""Methods that learn from base classes, one file each."""
