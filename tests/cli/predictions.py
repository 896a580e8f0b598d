"""What `lumora predict` has written."""

import json


def lines_of(out):
    """What it says of each picture."""
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
