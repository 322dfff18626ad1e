"""Clips: which frames the network sees, cropped and resized with their masks."""
