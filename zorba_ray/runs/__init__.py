"""A run put together once: its folder, its parts, and what it comes to."""
