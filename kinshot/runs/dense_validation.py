"""Validation by mIoU: dense episodes of validation classes, segmented by a head on maps of the encoder."""
