"""Masks of large pictures, a tile at a time."""
