"""Formats that encoders are exported in, one file each."""
