"""From a recipe without gaps to everything that a training works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from lumora.bundle.about import About, BaseReference, Method, installed_versions
from lumora.data import Limits, Source, open_source
from lumora.errors import RecipeError
from lumora.lora import LoraConfig, get_peft_model
from lumora.lora.names import is_inside_any
from lumora.models import Base, load_base
from lumora.models.untrained import start_anew
from lumora.ops import accelerate
from lumora.tasks import TASKS, Task
from lumora.tasks.metrics.base import Scores
from lumora.training.average import Average
from lumora.training.class_weights import class_weights
from lumora.training.loading import loaders
from lumora.training.loop import Course, Work
from lumora.training.optimizing import Optimizer, Rates
from lumora.training.processes import Alone, Processes
from lumora.training.ready import Ready
from lumora.training.recipe import Recipe, plain, recipe_hash
from lumora.training.schema.sections import Data
from lumora.training.stepping import Stepper


@dataclass
class Prepared:
    """A training that has not begun."""

    recipe: Recipe
    source: Source
    base: Base
    model: nn.Module
    """A `PeftModel` where adapters are trained, else the base's module itself."""
    work: Work
    course: Course

    def about_nothing(self) -> About:
        """The same before anything was measured."""
        return self.about(Scores({}))

    def about(self, scores: Scores) -> About:
        """What a bundle of the model says of itself."""
        return _about(self.recipe, self.source, self.base, scores)


def source_for(data: Data, path: Any = None) -> Source:
    """The pictures that a recipe asks for; `path` may be a dataset at hand."""
    where = data.path if path is None else path
    if where is None:
        raise RecipeError("This recipe names no data: they were at hand in Python. Give them again: data=…")
    return open_source(
        where,
        task=data.task,
        layout=data.layout,
        labels=data.labels,
        reduce_labels=data.reduce_labels,
        columns=cast("Mapping[str, str | Sequence[str]] | None", data.columns),
        subset=data.subset,
        limits=None if data.max_pixels is None else Limits(data.max_pixels),
        **_given(data, "ignore", "validation", "test", "seed", "near_duplicates_together"),
    )


def prepare(
    recipe: Recipe,
    source: Source,
    device: torch.device,
    given: Ready | None = None,
    processes: Processes | None = None,
) -> Prepared:
    """Build model, data and optimizer; the same recipe builds the same. A base that was given is copied."""
    train, processes = recipe.train, processes or Alone()
    task = _task(recipe, source, processes)
    base = _base(recipe, source, given)
    model = trainable(base, recipe)
    accelerate(model)
    # Convolutions take a quarter to a third less time so.
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    stepper = Stepper(
        model,
        task,
        Optimizer(model, base.heads, _rates(recipe)),
        device,
        precision=_chosen(train.precision),
        clip=train.clip,
        seed=_chosen(train.seed),
        processes=processes,
        micro_batch=train.micro_batch,
    )
    average = None if train.ema is None else Average(stepper.optimizer.parameters, train.ema)
    at_size = _about(recipe, source, base, Scores({})).at_size
    loader, validation = loaders(recipe, source, base.preprocessing, at_size, device, processes)
    work = Work(task, model, loader, validation, stepper, average, to_train(model, base, recipe))
    return Prepared(recipe, source, base, model, work, _course(recipe))


def _given(section: Any, *names: str) -> dict[str, Any]:
    """Those of a section's values that are chosen; the rest is left to the function that takes them."""
    return {name: value for name in names if (value := getattr(section, name)) is not None}


def _chosen(value: Any) -> Any:
    """A value that a recipe without gaps has."""
    assert value is not None
    return value


# --- task and model ---------------------------------------------------------------------------------------------------


def _task(recipe: Recipe, source: Source, processes: Processes) -> Task[Any]:
    loss = recipe.loss
    weights = class_weights(loss, source, processes)
    if source.task == "multilabel":
        return TASKS["multilabel"](source.labels, **({} if weights is None else {"positive_weights": weights}))
    options: dict[str, Any] = {"label_smoothing": loss.label_smoothing or 0.0, "class_weights": weights}
    if source.task == "segmentation":
        options["dice"] = loss.dice or 0.0
    return TASKS[source.task](source.labels, **options)


def _base(recipe: Recipe, source: Source, given: Ready | None) -> Base:
    chosen = recipe.base
    torch.manual_seed(_chosen(recipe.train.seed))  # of the fresh head
    name, options = _chosen(chosen.name), _given(chosen, "head", "width", "drop_path")
    if given is not None:
        name, options["preprocessing"] = given.copy(), given.preprocessing
    base = load_base(name, task=source.task, labels=source.labels.names, **options)
    if recipe.train.method == "scratch":
        start_anew(base.module)
    return base


def trainable(base: Base, recipe: Recipe) -> nn.Module:
    """The model with all that is to be trained, and nothing else, open to training."""
    method = recipe.train.method
    if recipe.train.grad_checkpointing:
        _save_memory(base.module)
    if method == "lora":
        return get_peft_model(base.module, lora_config(base, recipe))
    for name, parameter in base.module.named_parameters():
        parameter.requires_grad_(method != "head" or is_inside_any(name, base.heads))
    return base.module


def lora_config(base: Base, recipe: Recipe) -> LoraConfig:
    """The engine's configuration for what a recipe says of adapters."""
    lora = recipe.lora
    targets: Any = {"all": base.targets, "usual": base.usual_targets}.get(str(lora.targets), lora.targets)
    trained = [*base.heads, *(norm_paths(base) if lora.norms else ())]
    return LoraConfig(
        r=_chosen(lora.r),
        lora_alpha=_chosen(lora.alpha),
        lora_dropout=_chosen(lora.dropout),
        target_modules=list(targets) if isinstance(targets, tuple) else targets,
        exclude_modules=list(lora.exclude) if isinstance(lora.exclude, tuple) else lora.exclude,
        modules_to_save=trained or None,
        use_rslora=bool(lora.rslora),
        use_dora=bool(lora.dora),
        init_lora_weights=_chosen(lora.start),
        rank_pattern=dict(lora.rank_pattern or {}),
        alpha_pattern=dict(lora.alpha_pattern or {}),
        bias=_chosen(lora.bias),
    )


def norm_paths(base: Base) -> tuple[str, ...]:
    """Where the base's normalisation layers are, those of the head left out."""
    return tuple(
        path
        for path, module in base.module.named_modules()
        if "Norm" in type(module).__name__
        and isinstance(getattr(module, "weight", None), nn.Parameter)
        and not is_inside_any(path, base.heads)
    )


def _save_memory(module: nn.Module) -> None:
    for part in module.modules():
        for verb in ("gradient_checkpointing_enable", "set_grad_checkpointing"):
            if callable(switch := getattr(part, verb, None)):
                switch()
                return
    raise RecipeError(
        "train.grad_checkpointing is true, but this base cannot compute its forward pass twice. Take a smaller "
        "train.micro_batch instead."
    )


def to_train(model: nn.Module, base: Base, recipe: Recipe) -> Any:
    """What switches the model to training, if that is not its own `train`.

    Where the head alone is trained, the base computes as ever: no dropout, no new statistics.
    """
    if recipe.train.method != "head":
        return None

    def switch() -> None:
        model.eval()
        for head in base.heads:
            model.get_submodule(head).train()

    return switch


def _rates(recipe: Recipe) -> Rates:
    train = recipe.train
    return Rates(
        general=_chosen(train.rate),
        head=_chosen(train.head_rate),
        second_factors=train.lora_plus or 1.0,
        weight_decay=_chosen(train.weight_decay),
    )


# --- the rest ---------------------------------------------------------------------------------------------------------


def _course(recipe: Recipe) -> Course:
    train = recipe.train
    return Course(
        epochs=_chosen(train.epochs),
        warmup=_chosen(train.warmup),
        schedule=_chosen(train.schedule),
        best_by=train.best_by,
        keep_last=train.best_by is None,
        patience=train.patience,
        max_seconds=train.max_time,
        checkpoint_every=_chosen(recipe.run.checkpoint_every),
    )


def _about(recipe: Recipe, source: Source, base: Base, scores: Scores) -> About:
    chosen = recipe.base
    return About(
        task=source.task,
        labels=source.labels,
        preprocessing=base.preprocessing,
        size=_chosen(recipe.pictures.size),
        base=BaseReference.of(base, _chosen(chosen.head), _chosen(chosen.width)),
        method="full" if recipe.train.method == "scratch" else cast("Method", recipe.train.method),
        threshold=0.5 if source.task == "multilabel" else None,
        metrics=dict(scores),
        per_class=dict(scores.per_class),
        recipe=plain(recipe),
        recipe_hash=recipe_hash(recipe),
        versions=installed_versions(),
    )
