"""Detection: a trained detector on videos without labels, its tubes, and the forms in which
they leave.
"""
