"""What is done to windows of sensors, one idea a file: pure functions of a batch (B, C, T), NaN where nothing was measured, and of draws.

Draws are uniform numbers in [0, 1), one row for each sample; every function treats the whole batch at once, on its device.
"""
