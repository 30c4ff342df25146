"""Statistics as pure functions of arrays: no files, no clock, no global random state.

Arrays are named by their shape: G groups, S seeds, I items, C cells, R runs.
"""
