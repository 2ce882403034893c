"""The version of these sources, installed or not: pyproject.toml reads it here."""

__version__ = "0.1.0"
