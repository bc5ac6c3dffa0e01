"""Filters whose coefficients change over time, plain and compiled."""
