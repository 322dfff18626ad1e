"""Data sets: their ground truth, where their videos lie, and what is read of them.

table.py has every data set the scripts take; labels/ is what is known of a video, video/
its frames, clips/ what the network sees.
"""
