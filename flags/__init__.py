"""Every flag of every script, read once and handed on as dataclasses."""
