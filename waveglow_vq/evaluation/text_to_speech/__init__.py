"""Does it say what is written?"""
