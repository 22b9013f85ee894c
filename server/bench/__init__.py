"""`firstlight bench`: what one bootstrap costs here, against the physical floor of the same machine (design 9)."""
