"""What to adapt and how: `LoraConfig`, with the fields of PEFT's files, validated once."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

from lumora.errors import ConfigError

_LARGEST_RANK = 2**16
"""Beyond this a file is damaged or hostile: no layer is so large."""

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
        problems = [
            f"{n} is {v!r}; it must be a number" for n, v in (("rho", self.rho), ("tau", self.tau)) if not _is_number(v)
        ]
        if problems:
            raise ConfigError("EvaConfig: " + "; ".join(problems) + ".")
        if self.rho < 1:
            problems.append(f"rho is {self.rho}; it must be at least 1")
        if not 0 <= self.tau <= 1:
            problems.append(f"tau is {self.tau}; it must lie between 0 and 1")
        if problems:
            raise ConfigError("EvaConfig: " + "; ".join(problems) + ".")


@dataclass
class PeftConfig:
    """What every adapter configuration holds."""

    task_type: TaskType | str | None = None
    peft_type: PeftType = PeftType.LORA
    auto_mapping: dict[str, Any] | None = None
    peft_version: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = False

    unsupported_defaults: ClassVar[dict[str, Any]] = {}

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

    # Fields of PEFT's files for things that vision models do not need: accepted at these values, refused otherwise.
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
        if isinstance(self.modules_to_save, str):
            self.modules_to_save = [self.modules_to_save]
        # The other checks take the types for granted.
        if problems := _misfits(self, _TYPES) or _pattern_problems(self):
            raise ConfigError("LoraConfig: " + "; ".join(problems) + ".")
        if isinstance(self.eva_config, dict):
            try:
                self.eva_config = EvaConfig(**self.eva_config)
            except TypeError as error:
                raise ConfigError(f"LoraConfig: eva_config has fields that an EvaConfig has not: {error}.") from error
        if problems := self._problems():
            raise ConfigError("LoraConfig: " + "; ".join(problems) + ".")
        self.peft_type = PeftType(self.peft_type)

    @property
    def moves_base(self) -> bool:
        """Whether the start takes part of the base's weights into the factors (PiSSA, OLoRA)."""
        return moves_base(self.init_lora_weights)

    def _problems(self) -> list[str]:
        """Say everything that is wrong, so that one run shows it all."""
        problems = _misfits(self, _CHOICES)
        if self.peft_type != PeftType.LORA:
            problems.append(f"peft_type is {self.peft_type!r}; only 'LORA' adapters are supported")
        for name, rank in {"r": self.r, **self.rank_pattern}.items():
            if not 0 < rank <= _LARGEST_RANK:
                problems.append(f"the rank {name!r} is {rank}; it must be between 1 and {_LARGEST_RANK}")
        if not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout!r}; it must be at least 0 and below 1")
        if self.init_lora_weights == "orthogonal" and any(n % 2 for n in (self.r, *self.rank_pattern.values())):
            problems.append("init_lora_weights='orthogonal' needs even ranks")
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            problems.append("layers_to_transform works with a list of target_modules, not with a regular expression")
        if self.layers_pattern and self.layers_to_transform is None:
            problems.append("layers_pattern says how to count blocks; also say which with layers_to_transform")
        if self.use_dora and self.lora_bias:
            problems.append("use_dora and lora_bias cannot be combined: DoRA rescales the update, not a bias")
        return problems


def moves_base(start: object) -> bool:
    """Whether adapters that begin so take part of the base's weights."""
    return str(start).startswith(("pissa", "olora"))


def _known_start(value: Any) -> bool:
    if isinstance(value, bool) or value in ("gaussian", "orthogonal", "pissa", "olora", "eva"):
        return True
    return isinstance(value, str) and re.fullmatch(r"pissa_niter_[0-9]{1,3}", value) is not None


# What a field may hold: a test, and the words for it.
_Test = tuple[Callable[[Any], bool], str]
_FLAG: _Test = (lambda v: isinstance(v, bool), "True or False")
_NUMBER: _Test = (lambda v: _is_number(v), "a finite number")
_RANK: _Test = (lambda v: _is_whole(v), "a whole number")
_TEXT: _Test = (lambda v: v is None or isinstance(v, str), "a string or None")
_NAMES: _Test = (lambda v: v is None or isinstance(v, str) or _all(v, _is_text), "a list of names, a string or None")
_TASKS = frozenset(task.value for task in TaskType)
_TYPES: dict[str, _Test] = {
    "task_type": (
        lambda v: v is None or (isinstance(v, str) and v in _TASKS),
        f"one of {', '.join(TaskType)}, or None",
    ),
    "base_model_name_or_path": _TEXT,
    "revision": _TEXT,
    "peft_version": _TEXT,
    "auto_mapping": (lambda v: v is None or isinstance(v, dict), "a dictionary or None"),
    "inference_mode": _FLAG,
    "r": _RANK,
    "target_modules": _NAMES,
    "exclude_modules": _NAMES,
    "lora_alpha": _NUMBER,
    "lora_dropout": _NUMBER,
    "fan_in_fan_out": _FLAG,
    "use_rslora": _FLAG,
    "modules_to_save": (lambda v: v is None or _all(v, _is_text), "a list of names or None"),
    "layers_to_transform": (
        lambda v: v is None or _is_whole(v) or _all(v, _is_whole),
        "a whole number, a list of them or None",
    ),
    "layers_pattern": _NAMES,
    "rank_pattern": (lambda v: _is_table(v, _is_whole), "a dictionary of patterns and whole numbers"),
    "alpha_pattern": (lambda v: _is_table(v, _is_number), "a dictionary of patterns and finite numbers"),
    "eva_config": (lambda v: v is None or isinstance(v, dict | EvaConfig), "an EvaConfig, a dictionary or None"),
    "use_dora": _FLAG,
    "lora_bias": _FLAG,
}
# What a field may be, once its type is right.
_CHOICES: dict[str, _Test] = {
    "bias": (lambda v: v in ("none", "all", "lora_only"), "'none', 'all' or 'lora_only'"),
    "batch_norm": (lambda v: v in ("frozen", "saved"), "'frozen' or 'saved'"),
    "init_lora_weights": (
        lambda v: _known_start(v),
        "True, False, 'gaussian', 'orthogonal', 'pissa', 'pissa_niter_<number>', 'olora' or 'eva'",
    ),
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _all(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple | set | frozenset | range) and all(map(test, cast("Iterable[Any]", value)))


def _is_table(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(_is_text(k) and test(v) for k, v in cast("dict[Any, Any]", value).items())


def _misfits(config: LoraConfig, tests: dict[str, _Test]) -> list[str]:
    return [
        f"{name} is {_short(getattr(config, name))}; it must be {words}"
        for name, (test, words) in tests.items()
        if not test(getattr(config, name))
    ]


def _pattern_problems(config: LoraConfig) -> list[str]:
    """Every string that is used as a regular expression and is none."""
    patterns = [
        *(("target_modules", v) for v in [config.target_modules] if isinstance(v, str)),
        *(("exclude_modules", v) for v in [config.exclude_modules] if isinstance(v, str)),
        *(("layers_pattern", v) for v in _strings(config.layers_pattern)),
        *(("rank_pattern", v) for v in _strings(config.rank_pattern)),
        *(("alpha_pattern", v) for v in _strings(config.alpha_pattern)),
    ]
    problems: list[str] = []
    for name, pattern in patterns:
        try:
            # A closed group, since patterns are put into larger ones.
            re.compile(rf"({pattern})")
        except (re.error, RecursionError, OverflowError) as error:
            problems.append(f"{name} has {_short(pattern)}, which is no regular expression: {error}")
    return problems


def _strings(value: Any) -> list[str]:
    values: list[Any] = [value] if isinstance(value, str) else list(value or ())
    return [v for v in values if isinstance(v, str)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _as_set(value: Any) -> Any:
    try:
        return set(cast("Iterable[Any]", value)) if isinstance(value, list | tuple) else value
    except TypeError:  # something unhashable in it, which the check of types reports
        return cast("Any", value)


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(cast("Iterable[Any]", value))
    if isinstance(value, range):
        return list(value)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value
