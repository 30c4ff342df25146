"""The worker: builds the trainer, runs specs, spools results, reports.

runtime        the loop of a worker process
hot_trainers   the trainers it keeps warm
function_file  a function, imported from the very file that was hashed
smaller_batch  what a run that ran out of memory computes at once the next time
protocol       what driver and worker say to each other
run_markers    lines of its log that say which run printed what
process_env    what a worker process inherits, and what it knows about itself
"""
