"""Errors that a user can cause and fix; the command line prints them as one line and exits with status 2."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input. The message says the value, the rule and the fix; nothing was started."""


class DirectoryBusyError(UserError):
    """Another driver holds the sweep directory."""
