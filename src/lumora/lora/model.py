"""The wrapper that people hold: `get_peft_model` and `PeftModel`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from torch import Tensor, nn

from lumora.errors import AdapterError, PeftWarning
from lumora.lora import files, hub, inject, running, status, verify
from lumora.lora.config import LoraConfig
from lumora.lora.signature import signature_of_base
from lumora.lora.tuner import LoraModel

P = ParamSpec("P")
R = TypeVar("R")


def _by_tuner(method: Callable[Concatenate[LoraModel, P], R]) -> Callable[Concatenate[PeftModel, P], R]:
    """The same verb on the wrapper, where people and editors look for it."""

    @wraps(method)
    def verb(self: PeftModel, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self.base_model, *args, **kwargs)

    return verb


class PeftModel(nn.Module):
    """A base model with LoRA adapters.

    >>> base = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))
    >>> model.print_trainable_parameters()
    trainable params: 16 || all params: 46 || trainable%: 34.7826
    """

    task_classes: ClassVar[dict[str, type[PeftModel]]] = {}
    """Task type -> the class for it (see `task_models`)."""

    def __init__(
        self,
        model: nn.Module,
        peft_config: LoraConfig,
        adapter_name: str = "default",
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        *,
        strict: bool = True,
        replacing: bool = False,
    ) -> None:
        super().__init__()
        self.base_model = LoraModel(
            model,
            peft_config,
            adapter_name,
            autocast_adapter_dtype=autocast_adapter_dtype,
            low_cpu_mem_usage=low_cpu_mem_usage,
            strict=strict,
            replacing=replacing,
        )
        self._take_mode()
        running.feed_checkpoints(model)

    # --- running ------------------------------------------------------------------------------------------------------

    @signature_of_base
    def forward(self, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any) -> Any:
        """Run the adapted model, with the base's own arguments.

        `adapter_names` gives each sample of the batch its own adapter ("__base__" for none); only in eval mode.
        """
        if adapter_names is None:
            return self.base_model(*args, **kwargs)
        with running.routed(self, adapter_names, args, kwargs):
            return self.base_model(*args, **kwargs)

    def generate(self, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any) -> Any:
        """The base's `generate`."""
        with nullcontext() if adapter_names is None else running.routed(self, adapter_names, args, kwargs):
            return self.get_base_model().generate(*args, **kwargs)  # type: ignore[operator]

    def train(self, mode: bool = True) -> PeftModel:
        """Switch dropout and the like; the base's batch norms keep their statistics (`LoraConfig.batch_norm`)."""
        super().train(mode)
        self._freeze_norms()
        return self

    def _take_mode(self) -> None:
        """Be in the base's mode without changing that of any module inside."""
        self.training = self.base_model.training = self.base_model.model.training
        self._freeze_norms()

    def _freeze_norms(self) -> None:
        if self.training and all(config.batch_norm == "frozen" for config in self.peft_config.values()):
            for norm in files.frozen_norms(self.base_model.model):
                norm.eval()

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def peft_config(self) -> dict[str, LoraConfig]:
        """Adapter name -> its configuration."""
        return self.base_model.peft_config

    @property
    def active_peft_config(self) -> LoraConfig:
        """The configuration of the first active adapter."""
        return self.peft_config[self.active_adapters[0]]

    @property
    def active_adapters(self) -> list[str]:
        """Names of the adapters that count."""
        return self.base_model.active_adapters

    @property
    def active_adapter(self) -> str | list[str]:
        """The name of the only active adapter, or the list of them."""
        return self.base_model.active_adapter

    @property
    def modules_to_save(self) -> set[str] | None:
        """Names of the modules that are trained whole."""
        names = {n for config in self.peft_config.values() for n in config.modules_to_save or ()}
        return names or None

    def get_base_model(self) -> nn.Module:
        """The model inside, adapters and all."""
        return self.base_model.model

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """How many parameters are trained, and how many there are."""
        return status.count_parameters(self)

    def print_trainable_parameters(self) -> None:
        """Print both counts and their ratio."""
        trained, total = self.get_nb_trainable_parameters()
        line = f"trainable params: {trained:,} || all params: {total:,} || trainable%: {100 * trained / total:.4f}"
        print(line)  # noqa: T201 - printing is what it is for

    def get_layer_status(self) -> list[status.TunerLayerStatus]:
        """What is adapted, active, merged and trained, layer by layer."""
        return status.layer_status(self)

    def get_model_status(self) -> status.TunerModelStatus:
        """The same for the whole model."""
        return status.model_status(self)

    def verify(self, *sample: Any, tolerance: float = 1e-4, **named: Any) -> verify.Report:
        """Prove that every active adapter takes part: run a sample forward and backward, and merge layer by layer.

        The report names adapters that were not reached, got no gradient, or give something else once merged. The
        model is left as it was, gradients, modes and random state included. `print(model.verify(pixels))`.
        """
        return verify.verify(self, sample, named, tolerance)

    # --- changing -----------------------------------------------------------------------------------------------------

    def add_adapter(
        self,
        adapter_name: str,
        peft_config: LoraConfig,
        low_cpu_mem_usage: bool = False,
        autocast_adapter_dtype: bool = True,
    ) -> None:
        """Add a fresh adapter; which one is active does not change."""
        self._add(adapter_name, peft_config, low_cpu_mem_usage, autocast_adapter_dtype, strict=True)

    def _add(self, name: str, config: LoraConfig, on_meta: bool, full_precision: bool, strict: bool) -> None:
        if config.base_model_name_or_path is None:
            config = replace(config, base_model_name_or_path=_name_of(self.get_base_model()))
        self.base_model.inject_adapter(
            name, config, autocast_adapter_dtype=full_precision, low_cpu_mem_usage=on_meta, strict=strict
        )
        self._freeze_norms()

    set_adapter = _by_tuner(LoraModel.set_adapter)
    set_strength = _by_tuner(LoraModel.set_strength)
    set_requires_grad = _by_tuner(LoraModel.set_requires_grad)
    delete_adapter = _by_tuner(LoraModel.delete_adapter)
    rename_adapter = _by_tuner(LoraModel.rename_adapter)
    add_weighted_adapter = _by_tuner(LoraModel.add_weighted_adapter)
    compress_adapter = _by_tuner(LoraModel.compress_adapter)
    merge_adapter = _by_tuner(LoraModel.merge_adapter)
    unmerge_adapter = _by_tuner(LoraModel.unmerge_adapter)
    merge_and_unload = _by_tuner(LoraModel.merge_and_unload)
    unload = _by_tuner(LoraModel.unload)

    @contextmanager
    def disable_adapter(self) -> Generator[None]:
        """Inside, the model gives the base's outputs: no adapter counts and saved modules give way to the originals."""
        were = [(wrapper, wrapper.disable_adapters) for wrapper in inject.wrappers(self)]
        self.base_model.disable_adapter_layers()
        try:
            yield
        finally:
            for wrapper, disabled in were:
                wrapper.enable_adapters(not disabled)

    # --- files --------------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        selected_adapters: Sequence[str] | None = None,
        save_embedding_layers: str | bool = "auto",
        is_main_process: bool = True,
        path_initial_model_for_weight_conversion: str | None = None,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> None:
        """Write the adapters: the one called `default` into the folder, every other into a sub-folder of its name.

        Args:
            save_directory: the folder, made when missing.
            safe_serialization: must stay True; pickles are not written.
            selected_adapters: write only these.
            save_embedding_layers: kept for PEFT's callers; embeddings that are adapted or saved are always written.
            is_main_process: False writes nothing, for all processes but one.
            path_initial_model_for_weight_conversion: a folder with the adapter as it started (PiSSA, OLoRA); writes an
                ordinary adapter of twice the rank that fits the unchanged base.
            state_dict: take the values from this state dict of the whole model (gathered from shards, say).
            push_to_hub: send what was written to the Hub too.
            repo_id: where to, the folder's name when not given.
            token: an access token, the stored one when not given.
            private: whether a new repository is private.
            commit_message: the message on the Hub.
            revision: the branch on the Hub.
            create_pr: open a pull request instead of writing to the branch.
        """
        if not safe_serialization:
            raise AdapterError(
                "safe_serialization=False would write a pickle; adapters are written as safetensors only."
            )
        folder = Path(save_directory)
        names = list(selected_adapters) if selected_adapters is not None else list(self.peft_config)
        self.base_model.check_known(names)
        if not is_main_process:
            return
        written: list[Path] = []
        for name in names:
            written += files.save_adapter(
                self, name, folder, initial=path_initial_model_for_weight_conversion, state_dict=state_dict
            )
        if push_to_hub:
            repo_id = repo_id or folder.resolve().name
            target = hub.Target(repo_id, token, private, commit_message, revision, create_pr)
            hub.push({path.relative_to(folder).as_posix(): path for path in written}, target)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        selected_adapters: Sequence[str] | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Write the adapters to a repository on the Hub, made when missing; return the address of the commit."""
        with hub.staging_folder() as folder:
            self.save_pretrained(folder, selected_adapters=selected_adapters)
            written = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            return hub.push(written, hub.Target(repo_id, token, private, commit_message, revision, create_pr))

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        config: LoraConfig | None = None,
        autocast_adapter_dtype: bool = True,
        ephemeral_gpu_offload: bool = False,
        low_cpu_mem_usage: bool = False,
        key_mapping: Mapping[str, str] | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        torch_device: str | None = None,
        ignore_mismatched_sizes: bool = False,
        allow_pickle: bool = False,
        strict: bool = True,
    ) -> PeftModel:
        """Put a saved adapter onto a base: a folder, or a repository on the Hub.

        Args:
            model: the base. If anything about the adapter is wrong, it stays as it is.
            model_id: a folder, or `user/name` on the Hub.
            adapter_name: what the adapter is called from now on.
            is_trainable: go on training it; else it is frozen.
            config: use this configuration instead of the one in the folder.
            autocast_adapter_dtype: 32-bit factors on a 16-bit base.
            ephemeral_gpu_offload: kept for PEFT's callers; there is nothing to offload.
            low_cpu_mem_usage: do not draw starting values that the file replaces at once.
            key_mapping: regular expression -> replacement, applied to the names in the file.
            revision: branch, tag or commit on the Hub.
            subfolder: where in the folder the adapter lies.
            token: an access token for the Hub.
            cache_dir: where downloads are kept.
            local_files_only: do not ask the Hub.
            force_download: fetch again what is cached.
            torch_device: where to read the tensors to; the base's device when not given.
            ignore_mismatched_sizes: leave out tensors of another size instead of refusing.
            allow_pickle: read an old `adapter_model.bin` (with `weights_only=True`).
            strict: refuse a file that lacks tensors or has some without a place; else warn, as PEFT does.
        """
        options = hub.HubOptions(revision, token, cache_dir, local_files_only, force_download)
        source = files.Source(model_id, subfolder, options, key_mapping, allow_pickle)
        stored = files.read_adapter(source, config)
        read = replace(stored.config, inference_mode=not is_trainable)
        files.check_fits(
            model, read, stored.tensors, adapter_name, ignore_mismatched_sizes=ignore_mismatched_sizes, strict=strict
        )
        if cls is PeftModel:
            cls = PeftModel.task_classes.get(str(read.task_type), cls)
        peft_model = cls(model, read, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, strict=False)
        files.load_tensors(peft_model, stored.tensors, adapter_name, ignore_mismatched_sizes=ignore_mismatched_sizes)
        return peft_model

    def load_adapter(
        self,
        model_id: str | os.PathLike[str],
        adapter_name: str,
        is_trainable: bool = False,
        torch_device: str | None = None,
        autocast_adapter_dtype: bool = True,
        ephemeral_gpu_offload: bool = False,
        low_cpu_mem_usage: bool = False,
        key_mapping: Mapping[str, str] | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        ignore_mismatched_sizes: bool = False,
        allow_pickle: bool = False,
        strict: bool = True,
    ) -> files.LoadResult:
        """Add a saved adapter, or read it into the one of that name. The arguments are those of `from_pretrained`.

        Returns which keys were missing from the file and which were not used.
        """
        options = hub.HubOptions(revision, token, cache_dir, local_files_only, force_download)
        source = files.Source(model_id, subfolder, options, key_mapping, allow_pickle)
        stored = files.read_adapter(source)
        if adapter_name not in self.peft_config:
            read = replace(stored.config, inference_mode=not is_trainable)
            files.check_fits(
                self.get_base_model(),
                read,
                stored.tensors,
                adapter_name,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
                strict=strict,
            )
            self._add(adapter_name, read, low_cpu_mem_usage, autocast_adapter_dtype, strict=False)
            self._warn_of_what_is_left(adapter_name)
        else:
            self.base_model.check_not_merged(adapter_name)
            files.check_same_arithmetic(self.peft_config[adapter_name], stored.config, adapter_name)
        result = files.load_tensors(
            self, stored.tensors, adapter_name, ignore_mismatched_sizes=ignore_mismatched_sizes, strict=strict
        )
        if not is_trainable:
            self.base_model.set_requires_grad(adapter_name, False)
        return result

    def _warn_of_what_is_left(self, name: str) -> None:
        """Say so if an adapter was put where another one has taken part of the base."""
        both = (layer.adapters for layer in inject.lora_layers(self) if name in layer.adapters)
        takers = {other for adapters in both for other in adapters if self.peft_config[other].moves_base}
        if takers:
            warnings.warn(
                f"Adapter {name!r} lies on layers of which {', '.join(map(repr, sorted(takers)))} took a part "
                "(init_lora_weights). It is added to what is left of them; unless it was trained so, load it into a "
                "base without adapters.",
                PeftWarning,
                stacklevel=3,
            )

    def create_or_update_model_card(self, output_dir: str | os.PathLike[str]) -> None:
        """Write `README.md` beside an adapter, or bring an existing one up to date."""
        files.write_card(self, Path(output_dir))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_model":
                raise
            return getattr(self.base_model, name)


def get_peft_model(
    model: nn.Module,
    peft_config: LoraConfig,
    adapter_name: str = "default",
    mixed: bool = False,
    autocast_adapter_dtype: bool = True,
    revision: str | None = None,
    low_cpu_mem_usage: bool = False,
) -> PeftModel:
    """Freeze a model and put a LoRA adapter into it. The model is changed in place and returned wrapped.

    Args:
        model: any `nn.Module`. If anything about the configuration is wrong, it stays as it is.
        peft_config: what to adapt and how. Not changed.
        adapter_name: what the adapter is called.
        mixed: must stay False; there is one kind of adapter.
        autocast_adapter_dtype: 32-bit factors on a 16-bit base.
        revision: noted in the configuration.
        low_cpu_mem_usage: leave the factors without storage, to be loaded afterwards.

    >>> base = nn.Sequential(nn.Linear(8, 8))
    >>> model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))
    >>> model.targeted_module_names
    ['0']
    """
    if mixed:
        raise AdapterError("mixed=True combines different kinds of adapters; Lumora has one, LoRA.")
    if isinstance(model, PeftModel):
        model = model.get_base_model()
    if adapted := inject.names_of(model):
        warnings.warn(
            f"This model has adapters already: {adapted}. One of the same name is replaced, the others stay. To add "
            "one use model.add_adapter(name, config); to start afresh call model.unload() first.",
            PeftWarning,
            stacklevel=2,
        )
    config = replace(
        peft_config,
        base_model_name_or_path=peft_config.base_model_name_or_path or _name_of(model),
        revision=revision or peft_config.revision,
    )
    kind = PeftModel.task_classes.get(str(config.task_type), PeftModel)
    return kind(model, config, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, replacing=True)


def _name_of(model: nn.Module) -> str | None:
    name = getattr(model, "name_or_path", None)
    return name if isinstance(name, str) and name else None
