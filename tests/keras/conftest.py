"""These tests run in an environment with Keras: `make test-keras`. Elsewhere none of them is collected."""

import importlib.util

if any(importlib.util.find_spec(name) is None for name in ("keras", "keras_hub")):
    collect_ignore_glob = ["*.py"]
else:
    import lumora.integrations.keras.library  # noqa: F401 - before TensorFlow
