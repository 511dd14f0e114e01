"""What a student can be asked to keep of a teacher: losses of both sides' outputs for the same samples, one file each."""
