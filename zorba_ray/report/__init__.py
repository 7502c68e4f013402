"""For people's eyes: the live display, pages, figures and tables."""
