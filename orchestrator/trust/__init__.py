"""What may run: the one gate before a trainer, a pickle, a model's own code or a shell line is used.

A sweep directory or a configuration file can come from anywhere, and both name code. Permission belongs to
what this user launched or granted, not to a verb.

**Need** something of a sweep that could run code or write elsewhere: a trainer outside our own, remote code,
a pickle, a Ray address, a link out of the directory. **Consent** what the command line allows. **Grant** a
need that this user has allowed before, for one sweep and one manifest. **Permission** what the gate returns;
without one nothing is started.

gate       asks: needs, less grants, less consent, must be nothing
needs      what a sweep would use, found without importing or unpickling anything
consent    words and flags of the command line
trusted    grants, kept outside the sweep directory
signing    pickles that this user's own runs wrote
targets    whether a trainer is there
code_files whether the files that functions and commands are made of are those that were hashed
"""
