"""Numpy oracle of the tile language."""
