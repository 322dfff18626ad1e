"""The paper in plain code: what the fast code is tested against. README.md has the order to
read.
"""
