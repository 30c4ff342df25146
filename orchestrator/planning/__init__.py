"""What a launch would do, before anything starts.

plan       runs, cost and reasons of a sweep against what a directory already holds
estimates  seconds a unit of work takes, from runs measured here or guessed
cluster    the machines that a sweep asks for
"""
