"""Training: recipes and how their gaps are filled, the loop, and what a run leaves behind.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

if TYPE_CHECKING:
    from lumora.training.choosing import Chosen as Chosen
    from lumora.training.choosing import explained as explained
    from lumora.training.choosing import resolve as resolve
    from lumora.training.facts import BaseFacts as BaseFacts
    from lumora.training.facts import Facts as Facts
    from lumora.training.facts import Machine as Machine
    from lumora.training.planning.plan import Plan as Plan
    from lumora.training.planning.plan import plan as plan
    from lumora.training.recipe import Recipe as Recipe
    from lumora.training.recipe import parse_asked as parse_asked
    from lumora.training.recipe import read_recipe as read_recipe
    from lumora.training.recipe import recipe_hash as recipe_hash
    from lumora.training.recipe import recipe_text as recipe_text
    from lumora.training.recipe import write_recipe as write_recipe
    from lumora.training.report import write_report as write_report
    from lumora.training.rules.base import Origin as Origin
    from lumora.training.running import Run as Run
    from lumora.training.running import choose as choose
    from lumora.training.running import finetune as finetune
    from lumora.training.running import resume as resume
    from lumora.training.schema.asked import split_settings as split_settings

_HOMES = {
    "BaseFacts": "facts",
    "Chosen": "choosing",
    "Facts": "facts",
    "Machine": "facts",
    "Origin": "rules.base",
    "Plan": "planning.plan",
    "Recipe": "recipe",
    "Run": "running",
    "choose": "running",
    "explained": "choosing",
    "finetune": "running",
    "parse_asked": "recipe",
    "plan": "planning.plan",
    "read_recipe": "recipe",
    "recipe_hash": "recipe",
    "recipe_text": "recipe",
    "resolve": "choosing",
    "resume": "running",
    "split_settings": "schema.asked",
    "write_recipe": "recipe",
    "write_report": "report",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
