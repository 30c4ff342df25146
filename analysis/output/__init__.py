"""The forms in which answers leave: tables with footnotes, figures, pages.

table            text, Markdown, CSV, LaTeX, Parquet
figures          charts for print; schedule_figure learning-rate curves
html             a self-contained page
"""
