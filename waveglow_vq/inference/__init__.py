"""Using a trained model: loading an exported folder, vocoding, coding."""
