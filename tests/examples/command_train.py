"""Minimises (x - 3)² by gradient descent with noise: a script as anyone has one.

python tests/examples/command_train.py --lr 0.1 --seed 0
"""

import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=20)
arguments = parser.parse_args()

noise = random.Random(arguments.seed)
x = 0.0
for step in range(1, arguments.steps + 1):
    x -= arguments.lr * (2 * (x - 3) + noise.gauss(0, 0.5))
    print(f"step {step} loss {(x - 3) ** 2:.6f}")
