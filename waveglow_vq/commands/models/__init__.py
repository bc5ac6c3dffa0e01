"""Commands about models and checkpoints."""
