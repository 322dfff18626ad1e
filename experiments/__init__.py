"""The paper's experiments as grids of runs (run.py), the page of results (report/), the
silhouette benchmark (silhouettes/). A wing: it can be deleted, and the rest still runs.
"""
