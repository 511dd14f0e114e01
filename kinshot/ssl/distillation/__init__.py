"""Learning from teachers: settings, what a teacher gives, and the distillation terms around any method."""
