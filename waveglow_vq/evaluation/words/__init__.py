"""Do the words survive?"""
