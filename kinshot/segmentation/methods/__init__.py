"""Methods that train encoders to segment from a few examples, one file each; `kinshot.learn.METHODS` finds them by name."""
