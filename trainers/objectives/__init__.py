"""Objectives: pure functions from logits and rollouts to the scalar that a step lowers, one small file a
family.
"""
