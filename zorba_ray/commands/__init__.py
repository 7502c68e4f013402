"""The commands, thin: they read a line, call the rooms, and print."""
