"""The frozen, ordered list of a sweep's runs, and what has to be read to freeze it.

build          from a composed sweep to its manifest: expand, resolve, check, identify
manifest       the list itself; manifest_file its Parquet form; arrow the arrays in between
atomic         files and folders that appear whole or not at all
run_ids        identities; run_names short names for people; manifest_diff why two manifests differ
lineage        what runs start from
resolve        models, prompts, benchmarks and code, read and hashed (data_files, code_files, hf_cache,
               hub_commits, prompts); code_changes which code is another now; row_files the forms of files of
               rows, row_fields what their fields hold
"""
