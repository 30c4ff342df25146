"""``emsweep dashboard DIR``: review a sweep in the browser, finished or running, read-only.

A server renders plain pages: every view is a GET URL that works without JavaScript; htmx only swaps what
changed. Numbers come from :mod:`analysis`, charts are its figures, drawn by the browser; nothing is computed
here.

Glossary
--------
Snapshot   the Parquet files of a sweep at one moment, named by a hash of what they hold.
Page       a function from a :class:`~analysis.dashboard.context.Context` to a response.
Panel      a part of a page that is slow to compute, with a URL of its own, loaded after the page is shown.
Guard      what stands before every page: who may ask, and which headers every answer carries.
"""
