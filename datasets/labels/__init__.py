"""Labels: the annotation file, masks, and pseudo-labels between labeled frames."""
