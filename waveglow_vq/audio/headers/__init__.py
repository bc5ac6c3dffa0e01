"""What the headers of audio files say, and whether it is true."""
