"""Errors that a user can cause and fix; the command line prints them as one line and exits with status 2, or
130 where a sweep was cut short.
"""

from __future__ import annotations


class UserError(ValueError):
    """Bad input. The message says the value, the rule and the fix; nothing was started."""


class DirectoryBusyError(UserError):
    """Another driver holds the sweep directory."""


class StoreError(UserError):
    """The sweep directory can no longer be written; what was committed is safe and can be resumed from."""
