from __future__ import annotations

import peft
import pytest


@pytest.fixture(autouse=True)
def _without_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft compiles its card's template at every save, which takes longer than all the rest of a test."""
    monkeypatch.setattr(peft.PeftModel, "create_or_update_model_card", lambda self, folder: None)
