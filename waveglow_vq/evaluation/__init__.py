"""Objective measures of reconstructed speech."""
