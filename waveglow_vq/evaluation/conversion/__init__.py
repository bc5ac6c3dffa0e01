"""Does conversion convert?"""
