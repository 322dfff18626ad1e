"""Timing: how fast the product is, beside the plain reference. They write results/."""
