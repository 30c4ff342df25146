"""What people ask of a sweep or an installation; nothing is launched but a replay.

status          counts, rate, time left, failures
show            all that is known of one run
verify          one committed result for each run
replay          one run again, cold, compared number by number
log             what workers and attempts printed
metrics         counts and rates for Prometheus
doctor          whether an installation works
smoke           two real runs, for an installation to prove itself
support_bundle  what to send along with a report
"""
