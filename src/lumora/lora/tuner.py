"""The verbs that act on every adapter of a model: choose, merge, delete, combine."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lumora.errors import AdapterError, MergeError, PeftWarning
from lumora.lora import combine, files, inject
from lumora.lora.config import LoraConfig
from lumora.lora.layers import LoraLayer


class BaseTuner(nn.Module):
    """What `isinstance` checks for "something that holds an adapted model" look for."""


class LoraModel(BaseTuner):
    """A model with adapters in it, and the verbs that act on all of them.

    Most people hold it inside a `PeftModel`, which passes on whatever it does not know.
    """

    prefix = "lora_"
    tuner_layer_cls = LoraLayer

    def __init__(
        self,
        model: nn.Module,
        peft_config: LoraConfig | Mapping[str, LoraConfig],
        adapter_name: str = "default",
        *,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        strict: bool = True,
        replacing: bool = False,
    ) -> None:
        super().__init__()
        config = peft_config if isinstance(peft_config, LoraConfig) else peft_config[adapter_name]
        planned = inject.plan(
            model,
            config,
            adapter_name,
            full_precision=autocast_adapter_dtype,
            on_meta=low_cpu_mem_usage and not config.moves_base,
            strict=strict,
            replacing=replacing,
        )
        self.model = model
        self.peft_config: dict[str, LoraConfig] = dict(getattr(model, "peft_config", {}))
        self.targeted_module_names: list[str] = []
        self._carry_out(planned)
        if self.active_adapters != [adapter_name]:  # the model brought other adapters along
            self.set_adapter(adapter_name, planned.config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the adapted model."""
        return self.model(*args, **kwargs)

    def inject_adapter(
        self,
        adapter_name: str,
        config: LoraConfig,
        *,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        strict: bool = True,
    ) -> None:
        """Add an adapter; on any problem the model stays as it is."""
        if any(layer.merged for layer in inject.lora_layers(self.model)):
            warnings.warn("Adapters are merged now; an adapter added to them starts from their sum.", PeftWarning, 3)
        planned = inject.plan(
            self.model,
            config,
            adapter_name,
            full_precision=autocast_adapter_dtype,
            on_meta=low_cpu_mem_usage and not config.moves_base,
            strict=strict,
        )
        self._carry_out(planned)

    def _carry_out(self, planned: inject.Plan) -> None:
        if not inject.names_of(self.model):
            inject.freeze(self.model)
        inject.apply(self.model, planned)
        self.peft_config[planned.name] = planned.config
        self.model.peft_config = self.peft_config  # type: ignore[assignment]
        paths = (target.path for target in planned.choice.targets if not target.inner)
        self.targeted_module_names = list(dict.fromkeys([*self.targeted_module_names, *paths]))
        if self.active_adapters:  # which are left as they are, training or not
            inject.require_grad(self.model, planned.name, False)
        else:
            inject.activate(self.model, planned.name, inference_mode=planned.config.inference_mode)

    # --- which adapters count -----------------------------------------------------------------------------------------

    @property
    def active_adapters(self) -> list[str]:
        """Names of the adapters that count."""
        names: dict[str, None] = {}
        for wrapper in inject.wrappers(self.model):
            names |= dict.fromkeys(wrapper.active_adapters)
        return list(names)

    @property
    def active_adapter(self) -> str | list[str]:
        """The name of the only active adapter, or the list of them."""
        names = self.active_adapters
        return names[0] if len(names) == 1 else names

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Make exactly these adapters count and, unless `inference_mode`, train."""
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        self.check_known(names)
        if any(layer.merged for layer in inject.lora_layers(self.model)):
            warnings.warn("Adapters are merged now and are unmerged before others become active.", PeftWarning, 3)
            self.unmerge_adapter()
        inject.activate(self.model, names, inference_mode=inference_mode)

    def set_strength(self, adapter_name: str, strength: float) -> None:
        """Make an adapter count `strength` times as much as it was trained to; 1 puts it back. Takes effect at once."""
        self.check_known([adapter_name])
        for layer in inject.lora_layers(self.model):
            if adapter_name in layer.adapters:
                if adapter_name in layer.merged_adapters:
                    raise AdapterError(f"Adapter {adapter_name!r} is merged; call unmerge_adapter() first.")
                layer.set_strength(adapter_name, strength)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Let adapters train, or not, whichever are active."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self.check_known(names)
        for name in names:
            inject.require_grad(self.model, name, requires_grad)

    def enable_adapter_layers(self) -> None:
        """Let the active adapters count again."""
        for wrapper in inject.wrappers(self.model):
            wrapper.enable_adapters(True)

    def disable_adapter_layers(self) -> None:
        """Make the model give the base's outputs until `enable_adapter_layers`."""
        for name in self.active_adapters:
            config = self.peft_config.get(name)
            if config is not None and config.bias != "none":
                warnings.warn(
                    f"Adapter {name!r} trained the base's own biases (bias={config.bias!r}); they stay changed while "
                    "adapters are disabled.",
                    PeftWarning,
                    stacklevel=3,
                )
        for layer in inject.lora_layers(self.model):
            if layer.merged:
                raise AdapterError("Adapters are merged; call unmerge_adapter() before disabling them.")
        for wrapper in inject.wrappers(self.model):
            wrapper.enable_adapters(False)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter. If it was active, the first that remains becomes so."""
        self.check_known([adapter_name])
        holders = [w for w in inject.wrappers(self.model) if adapter_name in inject.held(w)]
        if any(isinstance(w, LoraLayer) and adapter_name in w.merged_adapters for w in holders):
            raise AdapterError(f"Adapter {adapter_name!r} is merged; call unmerge_adapter() before deleting it.")
        was_active = adapter_name in self.active_adapters
        for wrapper in holders:
            wrapper.remove(adapter_name)
        inject.unwrap_unused(self.model)
        del self.peft_config[adapter_name]
        if was_active and not self.active_adapters and self.peft_config:
            first = next(iter(self.peft_config))
            warnings.warn(f"Adapter {adapter_name!r} was active; {first!r} is now.", PeftWarning, stacklevel=3)
            self.set_adapter(first)

    def rename_adapter(self, old: str, new: str) -> None:
        """Give an adapter another name."""
        self.check_known([old])
        self.check_free(new)
        for wrapper in inject.wrappers(self.model):
            if old in inject.held(wrapper):
                wrapper.rename(old, new)
        renamed = {new if n == old else n: c for n, c in self.peft_config.items()}
        self.peft_config.clear()
        self.peft_config.update(renamed)

    def check_known(self, names: Sequence[str]) -> None:
        """Raise for names that no adapter has."""
        if unknown := [n for n in names if n not in self.peft_config]:
            raise AdapterError(
                f"There is no adapter {', '.join(map(repr, unknown))}; there are {list(self.peft_config)}."
            )

    def check_free(self, name: str) -> None:
        """Raise for a name that a new adapter cannot have."""
        if problem := inject.name_problem(name):
            raise AdapterError(f"{problem[0].upper()}{problem[1:]}.")
        if name in self.peft_config:
            raise AdapterError(f"There is an adapter {name!r} already; choose another name.")

    # --- merging ------------------------------------------------------------------------------------------------------

    def merge_adapter(self, adapter_names: Sequence[str] | None = None, safe_merge: bool = False) -> None:
        """Fold adapters (the active ones if not named) into the base's weights. Costs one copy of the adapted weights.

        `safe_merge` checks first that the result is finite, which takes as long again. Nothing is merged if anything
        cannot be.
        """
        names = list(adapter_names or self.active_adapters)
        self.check_known(names)
        layers = [(p, m) for p, m in self.model.named_modules() if isinstance(m, LoraLayer)]
        if merged := {n for _, layer in layers for n in names if n in layer.merged_adapters}:
            warnings.warn(f"Already merged: {sorted(merged)}; nothing more is added for these.", PeftWarning, 3)
        problems = [
            f"{path}: {problem}" for path, layer in layers if (problem := layer.why_not_merge(names, safe=safe_merge))
        ]
        holders = [(path, layer) for path, layer in layers if any(n in layer.adapters for n in names)]
        changed = {path: (layer, {site.weight for site in layer.merge_sites()}) for path, layer in holders}
        shared = inject.shared_weights(self.model, changed)
        problems += [f"{path}: merging would change its {weight}" for path, weight in shared]
        if problems:
            raise MergeError("Cannot merge; nothing was merged.\n" + "\n".join(f"  - {p}" for p in problems))
        for _, layer in layers:
            layer.merge(adapter_names=names)

    def unmerge_adapter(self) -> None:
        """Put back, bit for bit, the base's weights that merging replaced."""
        merged = [layer for layer in inject.lora_layers(self.model) if layer.merged]
        if not merged:
            warnings.warn("No adapter is merged; there is nothing to unmerge.", PeftWarning, stacklevel=3)
        for layer in merged:
            layer.unmerge()

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: Sequence[str] | None = None
    ) -> nn.Module:
        """Fold adapters in and return the plain base model, without a trace of them.

        `progressbar` is accepted for PEFT's callers; merging is done in a moment and shows none.
        """
        if any(layer.merged for layer in inject.lora_layers(self.model)) and adapter_names is None:
            names = [n for n in self.active_adapters if not self._is_merged(n)]
        else:
            names = list(adapter_names or self.active_adapters)
        if names:
            self.merge_adapter(names, safe_merge=safe_merge)
        return self._bare()

    def unload(self) -> nn.Module:
        """Return the plain base model as it was, without adapters; modules trained whole give way to the originals.

        PiSSA and OLoRA moved part of the base's weights into the adapter: that part goes with it.
        """
        for layer in inject.lora_layers(self.model):
            layer.unmerge()
        for wrapper in inject.wrappers(self.model):
            wrapper.enable_adapters(False)
        return self._bare()

    def check_not_merged(self, name: str) -> None:
        """Raise if an adapter is folded into the weights, where changing it would have no effect."""
        if self._is_merged(name):
            raise AdapterError(f"Adapter {name!r} is merged; call unmerge_adapter() before changing it.")

    def _is_merged(self, name: str) -> bool:
        return any(name in layer.merged_adapters for layer in inject.lora_layers(self.model))

    def _bare(self) -> nn.Module:
        inject.remove(self.model)
        if "peft_config" in self.model.__dict__:
            del self.model.peft_config
        return self.model

    # --- new adapters from old ones -----------------------------------------------------------------------------------

    def add_weighted_adapter(
        self,
        adapters: Sequence[str],
        weights: Sequence[float],
        adapter_name: str,
        combination_type: str = "svd",
        svd_rank: int | None = None,
        svd_clamp: float | None = None,
        svd_full_matrices: bool = True,
        svd_driver: str | None = None,
        density: float | None = None,
        majority_sign_method: str = "total",
    ) -> None:
        """Make an adapter out of others. See `lumora.lora.combine` for what each combination type computes."""
        options = combine.Options(svd_rank, svd_clamp, svd_full_matrices, svd_driver, density, majority_sign_method)
        combine.add_weighted(self, list(adapters), list(weights), adapter_name, combination_type, options)

    def compress_adapter(
        self, adapter_name: str, new_name: str, *, rank: int | None = None, energy: float | None = None
    ) -> dict[str, float]:
        """Make a smaller copy of an adapter: of this rank, or as many ranks as keep this share of each update's energy.

        Returns, for every adapted layer, the share that was kept.
        """
        return combine.compress(self, adapter_name, new_name, rank=rank, energy=energy)

    def get_model_config(self) -> dict[str, Any]:
        """The base's configuration as a dictionary, `{"model_type": "custom"}` when it has none."""
        return files.model_config(self.model)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)
