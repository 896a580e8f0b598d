"""Small helpers around adapted models."""

from __future__ import annotations

from lumora.lora.functional import check_if_peft_model, disable_input_dtype_casting, rescale_adapter_scale

__all__ = ["check_if_peft_model", "disable_input_dtype_casting", "rescale_adapter_scale"]
