"""What a training would do, change and cost, said before it is done."""
