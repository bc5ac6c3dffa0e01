"""Commands that make sound or codes."""
