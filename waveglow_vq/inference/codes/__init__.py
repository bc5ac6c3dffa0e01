"""Codes, and files of them."""
