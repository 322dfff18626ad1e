"""A campaign against everything that scripts read and write: files of every kind mutated by
the thousand, hostile pickles, videos and folders, kills at every file operation, full disks,
two runs at once. `python -m tests.faults` makes the table of docs/status.md again.
"""
