"""From a recipe without gaps to everything that a training works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from lumora.bundle.about import About, BaseReference, Method, installed_versions
from lumora.data import Cache, Limits, Loader, Pictures, Sample, Source, open_source
from lumora.data.places import cache_home
from lumora.errors import RecipeError
from lumora.lora import LoraConfig, get_peft_model
from lumora.lora.names import is_inside
from lumora.models import Base, load_base
from lumora.ops import accelerate
from lumora.tasks import TASKS, Task
from lumora.tasks.metrics.base import Scores
from lumora.training.average import Average
from lumora.training.loop import Course, Work
from lumora.training.optimizing import Optimizer, Rates
from lumora.training.recipe import Recipe, plain, recipe_hash
from lumora.training.schema.sections import Data
from lumora.training.seeing import evaluation_view, mixes, training_view
from lumora.training.stepping import Stepper

_EVALUATED_AT_ONCE = {"segmentation": 4}
_EVALUATED = 32


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


def prepare(recipe: Recipe, source: Source, device: torch.device) -> Prepared:
    """Build model, data and optimizer. The same recipe builds the same."""
    train = recipe.train
    task = _task(recipe, source)
    base = _base(recipe, source)
    model = trainable(base, recipe)
    accelerate(model)
    model.to(device)
    stepper = Stepper(
        model,
        task.loss,
        Optimizer(model, base.heads, _rates(recipe)),
        device,
        precision=_chosen(train.precision),
        clip=train.clip,
        seed=_chosen(train.seed),
        micro_batch=train.micro_batch,
    )
    average = None if train.ema is None else Average(stepper.optimizer.parameters, train.ema)
    loader, validation = _loaders(recipe, source, base, device)
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


def _task(recipe: Recipe, source: Source) -> Task[Any]:
    loss = recipe.loss
    weights = _class_weights(recipe, source)
    if source.task == "multilabel":
        return TASKS["multilabel"](source.labels, **({} if weights is None else {"positive_weights": weights}))
    options: dict[str, Any] = {"label_smoothing": loss.label_smoothing or 0.0, "class_weights": weights}
    if source.task == "segmentation":
        options["dice"] = loss.dice or 0.0
    return TASKS[source.task](source.labels, **options)


def _class_weights(recipe: Recipe, source: Source) -> tuple[float, ...] | None:
    asked = recipe.loss.class_weights
    if asked is None or asked == "none":
        return None
    if asked != "balanced":
        return tuple(float(weight) for weight in cast("Sequence[float]", asked))
    counts = class_counts(source)
    mean = sum(counts) / len(counts)
    return tuple(mean / max(1, count) for count in counts)


def class_counts(source: Source, split: str = "train") -> tuple[int, ...]:
    """How many pictures each class has; of a segmentation, how many pixels."""
    counts = torch.zeros(len(source.labels), dtype=torch.int64)
    for sample in source.splits[split]:
        if source.task == "segmentation":
            mask = cast("torch.Tensor", sample.mask()).flatten().long()
            mask = mask[(mask >= 0) & (mask < len(counts))]
            counts += torch.bincount(mask, minlength=len(counts))
        else:
            ids = sample.target if isinstance(sample.target, tuple) else (_chosen(sample.target),)
            counts[list(ids)] += 1
    return tuple(counts.tolist())


def _base(recipe: Recipe, source: Source) -> Base:
    chosen = recipe.base
    torch.manual_seed(_chosen(recipe.train.seed))  # of the fresh head
    name, options = _chosen(chosen.name), _given(chosen, "head", "width", "drop_path")
    return load_base(name, task=source.task, labels=source.labels.names, **options)


def trainable(base: Base, recipe: Recipe) -> nn.Module:
    """The model with all that is to be trained, and nothing else, open to training."""
    method = recipe.train.method
    if recipe.train.grad_checkpointing:
        _save_memory(base.module)
    if method == "lora":
        return get_peft_model(base.module, lora_config(base, recipe))
    for name, parameter in base.module.named_parameters():
        parameter.requires_grad_(method == "full" or any(is_inside(name, head) for head in base.heads))
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
        and not any(is_inside(path, head) for head in base.heads)
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


# --- data -------------------------------------------------------------------------------------------------------------


def _loaders(recipe: Recipe, source: Source, base: Base, device: torch.device) -> tuple[Loader, Loader | None]:
    run, train, segments = recipe.run, recipe.train, source.task == "segmentation"
    cache = _cache(recipe)
    seen = {"train": training_view(base.preprocessing, recipe.pictures, segments=segments)}
    seen["validation"] = evaluation_view(_about(recipe, source, base, Scores({})).at_size)

    def pictures(split: str) -> Pictures:
        samples: Sequence[Sample] = source.splits[split]
        return Pictures(samples, seen[split], _chosen(train.seed), cache, classes=len(source.labels))

    workers = run.workers or 0
    loader = Loader(
        pictures("train"),
        _chosen(train.batch_size),
        workers=workers,
        device=device,
        mix=mixes(recipe.pictures.mix or "none", len(source.labels)),
    )
    if "validation" not in source.splits or not len(source.splits["validation"]):
        return loader, None
    at_once = _EVALUATED_AT_ONCE.get(source.task, _EVALUATED)
    return loader, Loader(pictures("validation"), at_once, shuffle=False, workers=workers, device=device)


def _cache(recipe: Recipe) -> Cache | None:
    run = recipe.run
    if not run.cache_bytes:
        return None
    if run.cache_on == "disk":
        return Cache(cache_home() / "pixels", run.cache_bytes)
    return Cache(budget=run.cache_bytes)


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
        method=cast("Method", recipe.train.method),
        threshold=0.5 if source.task == "multilabel" else None,
        metrics=dict(scores),
        per_class=dict(scores.per_class),
        recipe=plain(recipe),
        recipe_hash=recipe_hash(recipe),
        versions=installed_versions(),
    )
