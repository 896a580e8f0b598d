"""The mistakes of a run one by one: what is wrong, the correction of its label or mask, and training again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from lumora.errors import InputError
from lumora.studio import relabelling
from lumora.studio.html import notice, render, sendable
from lumora.studio.results_view import Examined, Split, drawn_mistake, examined, meant, since, true_mask
from lumora.studio.tabs import painting as easel
from lumora.studio.tabs.answering import telling
from lumora.studio.wishes import Wishes, settings_of
from lumora.studio.workshop import Workshop
from lumora.training.inheriting import check_still_alike
from lumora.training.recipe import parse_asked

Looked = tuple[str, Split]
"""The folder of a run, and the split whose mistakes were looked for."""
_MEANWHILE = "Another run was looked into meanwhile, so nothing was done. Press again if you mean what is shown now."
WORST, DOUBTED = "the worst first", "likely wrong labels first"
_AGAIN = (
    '<p class="lm-soft">Corrections go into a file beside the data, which trainings honour. Then train again, from '
    "where this run ended:</p>"
)


@dataclass
class Showing:
    """What a window shows; each has one of its own, which all of its answers look at when they are ready."""

    looked: Looked | None = None
    """The run and split whose mistakes are there, while others may be chosen already."""


def name_of(looked: Examined, key: str) -> str:
    """What a mistake is called on the page: with the run and split that it is of, so that it is never another one's."""
    return json.dumps([*looked.of, key])


class Mistakes:
    """Shows one mistake after the other, and writes down what somebody says of them.

    Args:
        workshop: keeps the runs that were looked at.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self.order = gr.Radio([WORST, DOUBTED], value=WORST, label="Mistakes", elem_id="results-order")
        self.which = gr.Dropdown([], label="Mistake", elem_id="results-mistake")
        with gr.Row(elem_classes="lm-buttons"):
            self._before = gr.Button("Previous", size="sm", elem_id="results-before")
            self._after = gr.Button("Next", size="sm", elem_id="results-after")
        self._picture = gr.HTML(elem_id="results-picture")
        with gr.Column(visible=False) as self._of_labels:
            self._label = gr.Dropdown([], label="What it shows", elem_id="results-label")
            self._labels = gr.Dropdown([], multiselect=True, label="All that it shows", elem_id="results-labels")
            self._save_label = gr.Button("Save the correction", elem_id="results-save-label")
        with gr.Column(visible=False) as self._of_masks:
            with gr.Row(elem_classes="lm-form"):
                self._old = gr.Dropdown([], label="All that is", elem_id="results-old", min_width=130)
                self._new = gr.Dropdown([], label="becomes", elem_id="results-new", min_width=130)
                self._save_swap = gr.Button("Save the correction", elem_id="results-save-swap", min_width=170)
            with gr.Accordion("Paint on the mask", open=False, elem_id="results-painting") as self._easel:
                self._editor = easel.editor()
                self._legend = gr.HTML(elem_id="results-legend")
                self._save_paint = gr.Button("Save what was painted", elem_id="results-save-paint")
        self.painting = gr.State(False)
        """Whether the editor is open; a picture is sent to it only then."""
        gr.HTML(_AGAIN)
        with gr.Row(elem_classes="lm-form"):
            self._epochs = gr.Textbox(
                "", label="Epochs", placeholder="as before", elem_id="results-epochs", min_width=110
            )
            self._again = gr.Button("Train again with the corrections", elem_id="results-again", min_width=230)
        self.outputs = [
            *(self.order, self.which, self._picture, self._of_labels, self._label, self._labels),
            *(self._of_masks, self._old, self._new, self._editor, self._legend),
        ]

    def connect(self, showing: gr.State, told: gr.HTML) -> None:
        """Let its parts answer, for the run and split whose mistakes are shown."""
        mistake, outputs = [showing, self.order, self.painting, self.which], [told, *self.outputs]
        show = telling(len(self.outputs))(self._show)
        self.order.input(show, mistake[:-1], outputs)
        self.which.input(show, mistake, outputs)
        self._easel.expand(telling(2)(self._filled), [showing, self.which], [told, self.painting, self._editor])
        self._easel.collapse(lambda: False, None, self.painting)
        for button, by in ((self._before, -1), (self._after, 1)):
            button.click(self._stepping(by), mistake, outputs)
        saves = (
            (self._save_label, _relabel, [self._label, self._labels]),
            (self._save_paint, relabelling.repaint, [self._editor]),
            (self._save_swap, relabelling.replace_class, [self._old, self._new]),
        )
        for button, write, given in saves:
            button.click(self._saving(write), [*mistake, *given], outputs)
        self._again.click(self._train_again, [showing, self.which, self._epochs], told)

    def shown(self, looked: Examined, order: str, key: str | None, painting: bool) -> list[Any]:
        """What is put into `outputs` for one mistake, or for none where there are none.

        Args:
            looked: the run.
            order: the order of its mistakes.
            key: the mistake; the first one if it is not there any more.
            painting: whether the editor is open.
        """
        mistakes = looked.mistakes(doubted_first=order == DOUBTED)
        keys = [one.key for one in mistakes]
        key = key if key in keys else next(iter(keys), None)
        choices = [(sendable(f"{i}. {one.text}"), name_of(looked, one.key)) for i, one in enumerate(mistakes, 1)]
        which = gr.Dropdown(choices, value=None if key is None else name_of(looked, key))
        first = [gr.Radio(visible=bool(keys)), which]
        if key is None:
            nothing = render("empty", text=f"All {looked.pictures} were predicted right.")
            return [*first, nothing, *self._no_labels(), *self._no_masks()]
        masked = looked.subject.task.name == "segmentation"
        picture = render("mistake", one=drawn_mistake(looked, key), masked=masked, since=since(looked, key))
        if masked:
            return [*first, picture, *self._no_labels(), *self._masks(looked, key, painting)]
        return [*first, picture, *self._of_label(looked, key), *self._no_masks()]

    # --- what is asked for a correction -------------------------------------------------------------------------------

    def _of_label(self, looked: Examined, key: str) -> list[Any]:
        judged, names = looked.judged_of(key), list(looked.labels.names)
        single, corrected = looked.subject.task.name == "classification", looked.corrected_labels(key)
        said = corrected or [names[i] for i in judged.prediction.chosen]
        all_of_it = meant(judged, looked.labels) if corrected is None else corrected
        return [
            gr.Column(visible=True),
            gr.Dropdown(names, value=next(iter(said), None) if single else None, visible=single),
            gr.Dropdown(names, value=[] if single else all_of_it, visible=not single),
        ]

    def _masks(self, looked: Examined, key: str, painting: bool) -> list[Any]:
        colours, mask = relabelling.brush_colours(looked.labels), true_mask(looked, key)
        there = [name for i, name in enumerate(looked.labels.names) if bool((mask == i).any())]
        return [
            gr.Column(visible=True),
            gr.Dropdown([*there, relabelling.NOWHERE], value=next(iter(there), None)),
            gr.Dropdown([*looked.labels.names, relabelling.NOWHERE], value=None),
            easel.filled(looked, key) if painting else gr.skip(),
            render("legend", colours=colours),
        ]

    def _no_labels(self) -> list[Any]:
        return [gr.Column(visible=False), gr.skip(), gr.skip()]

    def _no_masks(self) -> list[Any]:
        return [gr.Column(visible=False), *(gr.skip() for _ in range(4))]

    # --- answers ------------------------------------------------------------------------------------------------------

    def _seen(self, looked: Looked | None) -> Examined:
        if not looked:
            raise InputError("Look for the mistakes of a run first.")
        return examined(self._workshop, *looked)

    def _answered(self, showing: Showing, of: Looked | None, answer: list[Any]) -> list[Any]:
        """An answer, or none where another run is shown by now."""
        return answer if showing.looked == of else [gr.skip() for _ in answer]

    def _show(self, showing: Showing, order: str, painting: bool, which: str | None = None) -> list[Any]:
        of = showing.looked
        return self._answered(showing, of, self.shown(self._seen(of), order, _key_of(which, of), painting))

    def _filled(self, showing: Showing, which: str | None) -> list[Any]:
        of = showing.looked
        looked, key = self._seen(of), _key_of(which, of)
        return [True, *self._answered(showing, of, [easel.filled(looked, key) if key else gr.skip()])]

    def _stepping(self, by: int) -> Callable[..., Any]:
        @telling(len(self.outputs))
        def stepped(showing: Showing, order: str, painting: bool, which: str | None) -> list[Any]:
            of = showing.looked
            looked, key = self._seen(of), _key_of(which, of)
            keys = [one.key for one in looked.mistakes(doubted_first=order == DOUBTED)]
            at = keys.index(key) if key in keys else -by
            answer = self.shown(looked, order, keys[(at + by) % len(keys)] if keys else None, painting)
            return self._answered(showing, of, answer)

        return stepped

    def _saving(self, write: Callable[..., Path]) -> Callable[..., Any]:
        """What writes a correction, and says where."""

        @telling(1 + len(self.outputs))
        def work(showing: Showing, order: str, painting: bool, which: str | None, *given: Any) -> list[Any]:
            if not which:
                raise InputError("Choose a mistake first.")
            of = showing.looked
            looked, key = self._seen(of), _key_of(which, of)
            if key is None:
                return [notice(_MEANWHILE, bad=True), *self.shown(looked, order, None, painting)]
            file = write(looked, key, *given)
            said = notice(
                f"Corrected in {file}; the data themselves stay as they are. The scores of all pictures are those of "
                "before until you look for the mistakes again."
            )
            return [said, *self._answered(showing, of, self.shown(looked, order, key, painting))]

        def saved(*given: Any) -> list[Any]:
            problem, said, *rest = work(*given)
            return [problem or said, *rest]

        return saved

    def _train_again(self, showing: Showing, which: str | None, epochs: str | None) -> str:
        @telling(1)
        def begun() -> str:
            of = showing.looked
            looked = self._seen(of)
            if which and _key_of(which, of) is None:
                raise InputError(_MEANWHILE)
            run = looked.subject.folder.path
            if not looked.data:
                raise InputError("The data of this run were at hand in Python; train again from there.")
            settings = {**settings_of(Wishes(epochs=epochs)), "train.start_from": str(run / "bundle")}
            if looked.subject.recipe.train.method == "scratch":
                settings["train.method"] = "full"  # weights are not random this time
            if looked.data != str(Path(looked.subject.recipe.data.path or "").absolute()):
                settings["data.path"] = looked.data  # the recipe's path leads elsewhere from here
            again = parse_asked(settings, onto=looked.subject.recipe)  # tells what does not go together
            check_still_alike(settings["train.start_from"], again, looked.subject.source)
            return self._workshop.trainings.begin(str(run / "recipe.yaml"), settings, f"{run.name}-again").name

        problem, name = begun()
        return problem or notice(f"The training {name} has begun; the tab Train shows how it goes.")


def _key_of(which: str | None, of: Looked | None) -> str | None:
    """The sample of a mistake, if the mistake is of this run and split."""
    if not which or of is None:
        return None
    *mine, key = json.loads(which)
    return key if tuple(mine) == of else None


def _relabel(looked: Examined, key: str, label: str | None, labels: list[str] | None) -> Path:
    single = looked.subject.task.name == "classification"
    return relabelling.relabel(looked, key, ([label] if label else []) if single else labels or [])
