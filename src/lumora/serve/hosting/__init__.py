"""Bundles that share what is the same in them."""
