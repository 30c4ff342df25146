"""Minimises (x - 3)² by gradient descent with noise: a function as anyone has one."""

import random


def train(params, seed, report):
    noise, x = random.Random(seed), 0.0
    for step in range(1, params["steps"] + 1):
        x -= params["lr"] * (2 * (x - 3) + noise.gauss(0, 0.5))
        report(step, loss=(x - 3) ** 2)
    return {"loss": (x - 3) ** 2}
