"""Everything that Lumora raises on purpose.

Each kind is also the built-in exception that callers of PEFT catch in its place, so `except ValueError` keeps working.
"""

from __future__ import annotations


class LumoraError(Exception):
    """Something the user can mend; the message says what was found, what was expected and what to do."""


class ConfigError(LumoraError, ValueError):
    """A configuration holds values that do not make sense, alone or together."""


class PeftError(LumoraError):
    """Base of the errors about adapting a model, under the name that users of PEFT catch."""


class TargetError(PeftError, ValueError):
    """The chosen targets cannot be adapted; the model is as it was."""


class NoMatchingPeftModuleError(TargetError):
    """Nothing in the model is called what the configuration asks for."""


class AdapterError(LumoraError, ValueError):
    """An adapter cannot be used as asked: unknown name, name taken, wrong state."""


class UnknownAdapterError(AdapterError, KeyError):
    """No adapter has this name."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


class MergeError(LumoraError, ValueError, NotImplementedError):
    """An adapter cannot be folded into the base's weights: there is no place for it, or what it gives is not finite."""


class RoutingError(LumoraError, ValueError):
    """The adapters named for the samples of a batch do not fit the batch or the model."""


class AdapterFileError(LumoraError, ValueError):
    """An adapter folder is missing something, damaged, or not for this model."""


class AdapterShapeError(AdapterFileError, RuntimeError):
    """Tensors of an adapter file have other sizes than the model's."""


class AdapterKeyError(AdapterFileError, RuntimeError):
    """A state dict has tensors for which the model has no place, or lacks some."""


class HubError(LumoraError, OSError):
    """A file could not be fetched from or sent to the Hub."""


class DataError(LumoraError, ValueError):
    """Pictures, labels or masks are not as they should be."""


class MissingDataError(DataError, HubError):
    """Neither a file or folder nor a dataset that can be had goes by the name that was given."""


class LayoutError(DataError):
    """The data do not lie in any way that is known, or not in the way that was asked for."""


class UnreadableError(DataError, OSError):
    """A picture or mask cannot be read: missing, empty, damaged, or no picture at all."""


class TooLargeError(UnreadableError):
    """A picture has more pixels than the limit; it was not decoded."""


class MaskError(DataError):
    """A mask does not fit its picture or the labels."""


class OutputError(LumoraError, ValueError):
    """What is to be written has no place where it was asked for: something is there, or it would come into the data."""


class RecipeError(ConfigError):
    """A recipe asks for something that is not there or does not fit; the message tells every problem."""


class BundleError(LumoraError, ValueError):
    """A bundle is missing something, damaged, newer than this version, or not for this base or task."""


class CheckpointError(LumoraError, ValueError):
    """No checkpoint of a run is whole, or it belongs to another recipe."""


class RunError(LumoraError, ValueError):
    """A run's folder cannot be used: another run is in it, it is no run, or nothing can be written there."""


class TrainingError(LumoraError, RuntimeError):
    """A training cannot go on; the message says what happened and what to change."""


class MetricError(LumoraError, ValueError):
    """What was to be measured does not fit the metric, or nothing was measured."""


class SelfTestError(MetricError):
    """An evaluation gives a perfect or a constant predictor another score than arithmetic does."""


class InputError(LumoraError, ValueError):
    """A tensor given to a function has a shape, a type or values that it cannot work with."""


class LumoraWarning(UserWarning):
    """Something works, but perhaps not as the user believes."""


class PeftWarning(LumoraWarning):
    """The same, under the name that users of PEFT filter."""
