"""Pieces that single tiles see become the objects of the slide."""
