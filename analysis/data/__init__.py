"""A sweep directory as tidy tables.

sweep        a directory, finished or running, opened
source       which Parquet files its tables lie in
views        the SQL views over them; filters_sql filters in SQL
columns      runs as plain arrays, sorted into groups; frames as pandas
axes         the axes, and the words a user may call columns by
"""
