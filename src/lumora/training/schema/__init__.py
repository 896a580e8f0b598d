"""What a recipe may say: its sections and keys, how they are read from text and files, and what contradicts what."""
