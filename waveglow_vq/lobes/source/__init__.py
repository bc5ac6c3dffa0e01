"""What voices: the pitch that a log-mel holds, and pulses of it."""
