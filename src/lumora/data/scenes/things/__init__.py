"""What can stand in a scene. Each thing draws itself where its foot is, as large as it looks from there."""
