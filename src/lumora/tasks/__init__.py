"""What a sample, a loss, a metric, a prediction and a drawing of each task are."""
