"""What text to speech is made of."""
