"""Training: recipes and how their gaps are filled, the loop, and what a run leaves behind."""
