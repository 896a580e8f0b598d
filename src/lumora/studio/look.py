"""How the page looks: colours, letters, and the few rules that Gradio lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ICON = Path(__file__).with_name("icon.svg")
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def head() -> str:
    """What stands in the page's head: that it can be dark, and its own script."""
    script = Path(__file__).with_name("swatches.js").read_text(encoding="utf-8")
    return f'<meta name="color-scheme" content="light dark"><script>{script}</script>'


def css() -> str:
    """The page's own rules."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def theme() -> Any:
    """Gradio's plainest theme with the fonts that are there, in Lumora's colours; it follows the system's darkness."""
    from gradio import themes

    teal = themes.Color(
        name="lumora",
        c50="#f0faf8",
        c100="#e0f3f0",
        c200="#bde4de",
        c300="#8fd0c7",
        c400="#5cc9bd",
        c500="#14a098",
        c600="#0f766e",
        c700="#0c625c",
        c800="#0b4f4a",
        c900="#0a3f3b",
        c950="#062926",
    )
    base = themes.Base(primary_hue=teal, secondary_hue=teal, neutral_hue="slate", font=_FONTS, font_mono=_MONO)
    return base.set(
        body_background_fill="#fbfbfa",
        body_background_fill_dark="#14181b",
        body_text_color="#1d2429",
        body_text_color_dark="#e4e8ea",
        body_text_color_subdued="#56626a",
        body_text_color_subdued_dark="#a3afb6",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1b2024",
        background_fill_secondary_dark="#1b2024",
        block_label_text_color="#56626a",
        block_label_text_color_dark="#a3afb6",
        block_info_text_color="#56626a",
        block_info_text_color_dark="#a3afb6",
        block_title_text_color="#1d2429",
        block_title_text_color_dark="#e4e8ea",
        border_color_primary="#dfe3e5",
        border_color_primary_dark="#333c42",
        input_background_fill="#ffffff",
        input_background_fill_dark="#14181b",
        input_border_color="#8b979e",
        input_border_color_dark="#66737b",
        input_border_width="1px",
        input_placeholder_color="#66727a",
        input_placeholder_color_dark="#93a0a8",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_dark="#5cc9bd",
        button_primary_background_fill_hover="#0c625c",
        button_primary_background_fill_hover_dark="#8fd0c7",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#10211f",
        button_secondary_background_fill="#eef1f2",
        button_secondary_background_fill_dark="#2a3238",
        button_secondary_background_fill_hover="#e0e5e7",
        button_secondary_background_fill_hover_dark="#36414a",
        button_secondary_text_color="#1d2429",
        button_secondary_text_color_dark="#e4e8ea",
        button_secondary_border_color="#c3cbcf",
        button_secondary_border_color_dark="#4a565e",
        button_border_width="1px",
        slider_color="#0f766e",
        slider_color_dark="#5cc9bd",
        shadow_drop="none",
        shadow_drop_lg="0 4px 16px rgb(0 0 0 / .12)",
        block_shadow="none",
        block_shadow_dark="none",
    )
