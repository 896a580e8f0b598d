import pytest


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch):
    """Nothing is looked for on the Hub by chance."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
