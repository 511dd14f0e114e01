"""The console commands: arguments in, exit codes out."""
