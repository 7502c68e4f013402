"""The one exception that is meant for the user: its text is printed as a single line, without a traceback."""


class ConfigError(ValueError):
    """Something the user can change: says what was wrong, where, and what to do."""
