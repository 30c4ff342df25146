"""Soups and interpolations of kept weights, as runs of their own.

weights   how weights are combined
trainer   the trainer that does so
"""
