"""Colors, fonts and corners of the page."""

from __future__ import annotations

import gradio as gr

TERRACOTTA = (
    *("#fcf5f1", "#f9e6dc", "#f2cab6", "#e8a888", "#dc845c"),
    *("#c8643a", "#ab4f29", "#8a3e20", "#6c311b", "#542717", "#33160c"),
)
VALUES = {
    "body_background_fill": "#f6f3ee",
    "body_background_fill_dark": "#151311",
    "background_fill_primary": "#fffdfa",
    "background_fill_primary_dark": "#1e1b19",
    "background_fill_secondary": "#f1ece5",
    "background_fill_secondary_dark": "#2a2623",
    "border_color_primary": "#e4ddd3",
    "border_color_primary_dark": "#38332f",
    "body_text_color_subdued": "#6e665d",
    "body_text_color_subdued_dark": "#a89f95",
    "block_background_fill": "transparent",
    "block_background_fill_dark": "transparent",
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_shadow_dark": "none",
    "block_padding": "0px",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_dark": "*primary_600",
    "button_primary_background_fill_hover_dark": "*primary_500",
    "button_primary_text_color": "white",
    "button_secondary_background_fill": "*background_fill_secondary",
    "button_secondary_background_fill_dark": "*background_fill_secondary",
    "button_secondary_background_fill_hover": "*border_color_primary",
    "button_secondary_background_fill_hover_dark": "*border_color_primary",
    "checkbox_label_background_fill": "*background_fill_secondary",
    "checkbox_label_background_fill_dark": "*background_fill_secondary",
    "checkbox_label_background_fill_hover": "*border_color_primary",
    "checkbox_label_background_fill_hover_dark": "*border_color_primary",
    "input_background_fill": "*background_fill_secondary",
    "input_background_fill_dark": "*background_fill_secondary",
    "block_label_text_weight": "400",
    "block_title_text_weight": "400",
    "block_title_text_color": "*body_text_color",
    "block_info_text_color": "*body_text_color_subdued",
    "block_info_text_color_dark": "*body_text_color_subdued",
    "slider_color": "*primary_600",
    "slider_color_dark": "*primary_500",
}


def theme() -> gr.themes.Base:
    """Warm grays and one terracotta; the fonts are files of the library or of the system."""
    terracotta = gr.themes.Color(*TERRACOTTA)
    sans = gr.themes.LocalFont("IBM Plex Sans", (400, 700))
    mono = gr.themes.LocalFont("IBM Plex Mono", (400, 700))
    look = gr.themes.Base(
        primary_hue=terracotta,
        secondary_hue=terracotta,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        font=[sans, "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[mono, "ui-monospace", "monospace"],
    )
    return look.set(**VALUES)
