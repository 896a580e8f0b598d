import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """What Lumora keeps for the next time is kept for one test, and not in the home of whoever runs the tests."""
    monkeypatch.setenv("LUMORA_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{id(monkeypatch)}"))
