"""The worker: builds the trainer, runs specs, spools results, reports.

runtime      the loop of a worker process
protocol     what driver and worker say to each other
process_env  what a worker process inherits, and what it knows about itself
"""
