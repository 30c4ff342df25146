"""The shipped sweeps, each composed once for all tests."""

import functools

from sweeps.compose import compose_sweep


@functools.cache
def shipped(name):
    return compose_sweep([f"sweep={name}"])
