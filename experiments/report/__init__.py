"""Sections, curves and tables of the page that report.py writes."""
