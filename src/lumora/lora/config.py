"""What to adapt and how: `LoraConfig`, with the fields of PEFT's files, validated once."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lumora.errors import ConfigError

Start = bool | str
"""How the factors begin: True, False, "gaussian", "orthogonal", "pissa", "pissa_niter_<n>", "olora" or "eva"."""


class PeftType(enum.StrEnum):
    """The kind of an adapter. Lumora knows one."""

    LORA = "LORA"


class TaskType(enum.StrEnum):
    """What a model is for, in PEFT's words. Sequence and token classifiers also save their classification head."""

    SEQ_CLS = "SEQ_CLS"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    CAUSAL_LM = "CAUSAL_LM"
    TOKEN_CLS = "TOKEN_CLS"
    QUESTION_ANS = "QUESTION_ANS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


@dataclass
class EvaConfig:
    """How `init_lora_weights="eva"` looks at the data: the directions that explain most of each layer's input.

    Args:
        rho: up to `rho * r` directions are computed, and ranks go where they explain most. 1 keeps ranks equal.
        tau: a layer is done when its directions' cosine similarity between two batches exceeds this.
        use_label_mask: leave out positions whose label is `label_mask_value`.
        label_mask_value: the label that means "ignore".
        whiten: scale the directions by their singular values.
        adjust_scaling_factors: keep `alpha / r` constant where ranks were redistributed.
    """

    rho: float = 2.0
    tau: float = 0.99
    use_label_mask: bool = True
    label_mask_value: int = -100
    whiten: bool = False
    adjust_scaling_factors: bool = True

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.rho < 1:
            problems.append(f"rho is {self.rho}; it must be at least 1")
        if not 0 <= self.tau <= 1:
            problems.append(f"tau is {self.tau}; it must lie between 0 and 1")
        if problems:
            raise ConfigError("EvaConfig: " + "; ".join(problems) + ".")


@dataclass
class PeftConfig:
    """What every adapter configuration holds."""

    peft_type: PeftType = PeftType.LORA
    task_type: TaskType | str | None = None
    auto_mapping: dict[str, Any] | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = False
    peft_version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, the way they are written to `adapter_config.json`."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @property
    def is_prompt_learning(self) -> bool:
        """False: LoRA changes weights, not prompts."""
        return False

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        subfolder: str | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> LoraConfig:
        """Read the configuration of an adapter folder or of a repository on the Hub."""
        from lumora.lora import files, hub

        options = hub.HubOptions(revision, token, cache_dir, local_files_only, force_download)
        return files.read_config(pretrained_model_name_or_path, subfolder=subfolder, options=options)

    def save_pretrained(self, save_directory: str) -> None:
        """Write `adapter_config.json` into a folder, made when missing."""
        from lumora.lora import files

        files.write_config(self, save_directory)


@dataclass
class LoraConfig(PeftConfig):
    """Which modules get low-rank adapters, and what those look like. The fields and their defaults are PEFT's.

    Args:
        r: the rank of every adapter that `rank_pattern` does not name.
        target_modules: names or path endings of modules, one regular expression for the whole path, "all-linear", or
            None for the architecture's usual choice.
        exclude_modules: names or a regular expression of modules that stay untouched whatever `target_modules` says.
        lora_alpha: the update is scaled by `lora_alpha / r`, or by `lora_alpha / sqrt(r)` with `use_rslora`.
        lora_dropout: probability of dropping an element of an adapter's input while training.
        fan_in_fan_out: kept for PEFT's files; the orientation is taken from the layer itself.
        bias: "none", "all" biases of the model, or "lora_only": those of adapted layers, are trained and saved.
        modules_to_save: names of modules that are trained fully and saved with the adapter, such as a new head.
        init_lora_weights: how the factors start; see `Start`.
        layers_to_transform: indices of the blocks to adapt, all when None.
        layers_pattern: the name of the list that those indices count, found by itself when None.
        rank_pattern: path ending or regular expression -> rank, where it differs from `r`.
        alpha_pattern: the same for `lora_alpha`.
        use_dora: learn each output's magnitude apart from the direction (DoRA).
        lora_bias: give the second factor a bias.
        eva_config: options of the "eva" start.
        batch_norm: "frozen" leaves the running statistics of the base's batch norms alone while training; "saved" lets
            them move and writes them with the adapter. A field of ours, written only when it is "saved".

    >>> LoraConfig(r=16, target_modules=["query", "value"]).lora_alpha
    8
    """

    r: int = 8
    target_modules: set[str] | list[str] | str | None = None
    exclude_modules: set[str] | list[str] | str | None = None
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    modules_to_save: list[str] | None = None
    init_lora_weights: Start = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict[str, int])
    alpha_pattern: dict[str, float] = field(default_factory=dict[str, float])
    eva_config: EvaConfig | dict[str, Any] | None = None
    use_dora: bool = False
    lora_bias: bool = False
    batch_norm: Literal["frozen", "saved"] = "frozen"

    # Fields of PEFT's files that stand for things vision models do not need: accepted at these values, refused otherwise.
    unsupported_defaults: ClassVar[dict[str, Any]] = {
        "alora_invocation_tokens": None,
        "arrow_config": None,
        "corda_config": None,
        "ensure_weight_tying": False,
        "kasa_config": None,
        "layer_replication": None,
        "loftq_config": {},
        "lora_ga_config": None,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "monteclora_config": None,
        "qalora_group_size": 16,
        "target_parameters": None,
        "trainable_token_indices": None,
        "use_bdlora": None,
        "use_qalora": False,
        "velora_config": None,
    }

    def __post_init__(self) -> None:
        self.target_modules = _as_set(self.target_modules)
        self.exclude_modules = _as_set(self.exclude_modules)
        if isinstance(self.eva_config, dict):
            self.eva_config = EvaConfig(**self.eva_config)
        if problems := self._problems():
            raise ConfigError("LoraConfig: " + "; ".join(problems) + ".")
        self.peft_type = PeftType(self.peft_type)

    def _problems(self) -> list[str]:
        """Say everything that is wrong, so that one run shows it all."""
        problems: list[str] = []
        if self.peft_type != PeftType.LORA:
            problems.append(f"peft_type is {self.peft_type!r}; only 'LORA' adapters are supported")
        for name, rank in {"r": self.r, **self.rank_pattern}.items():
            if not isinstance(rank, int) or isinstance(rank, bool) or rank <= 0:
                problems.append(f"the rank {name!r} is {rank!r}; it must be a positive whole number")
        if not isinstance(self.lora_dropout, int | float) or not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout!r}; it must be at least 0 and below 1")
        if self.bias not in ("none", "all", "lora_only"):
            problems.append(f"bias is {self.bias!r}; choose 'none', 'all' or 'lora_only'")
        if self.batch_norm not in ("frozen", "saved"):
            problems.append(f"batch_norm is {self.batch_norm!r}; choose 'frozen' or 'saved'")
        if not _known_start(self.init_lora_weights):
            problems.append(
                f"init_lora_weights is {self.init_lora_weights!r}; choose True, False, 'gaussian', 'orthogonal', "
                "'pissa', 'pissa_niter_<number>', 'olora' or 'eva'"
            )
        if self.init_lora_weights == "orthogonal" and any(n % 2 for n in (self.r, *self.rank_pattern.values())):
            problems.append("init_lora_weights='orthogonal' needs even ranks")
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            problems.append("layers_to_transform works with a list of target_modules, not with a regular expression")
        if self.layers_pattern and self.layers_to_transform is None:
            problems.append("layers_pattern says how to count blocks; also say which with layers_to_transform")
        if self.use_dora and self.lora_bias:
            problems.append("use_dora and lora_bias cannot be combined: DoRA rescales the update, not a bias")
        return problems


def _known_start(value: Any) -> bool:
    if isinstance(value, bool) or value in ("gaussian", "orthogonal", "pissa", "olora", "eva"):
        return True
    return isinstance(value, str) and value.startswith("pissa_niter_") and value.removeprefix("pissa_niter_").isdigit()


def _as_set(value: Any) -> Any:
    return set(value) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value
