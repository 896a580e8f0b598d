"""What a shell is told when somebody presses Tab."""

from __future__ import annotations


def settings(incomplete: str) -> list[tuple[str, str]]:
    """Keys of a recipe that begin so, with what each means; of the only one left, its values.

    A shell adds a blank to the only word that is left, which must not come after `=`. So there are always several.

    >>> [word for word, _ in settings("train.w")]
    ['train.weight_decay=', 'train.warmup=']
    >>> [word for word, _ in settings("train.sch")]
    ['train.schedule=cosine', 'train.schedule=linear', 'train.schedule=constant', 'train.schedule=auto']
    """
    from lumora.training.schema.keys import keys

    name, equals, _ = incomplete.partition("=")
    found = [key for key in keys().values() if (key.name == name if equals else key.name.startswith(name))]
    if len(found) != 1:
        return [(f"{key.name}=", key.description) for key in found]
    [key] = found
    values = [*key.choices, *([] if key.null is None else ["null"]), *([] if "auto" in key.choices else ["auto"])]
    means = {"null": key.null or "", "auto": "chosen for you"}
    words = [(f"{key.name}={value}", means.get(value, key.description)) for value in values]
    return words if len(words) > 1 else [(f"{key.name}=", key.description), *words]
