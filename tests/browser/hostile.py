"""Rollouts that a page must show as the text they are."""

from __future__ import annotations

ROLLOUTS = {
    "script": "<script>document.title = 'owned'; alert(1)</script>",
    "image": '<img src=x onerror="alert(2)"><svg onload=alert(3)>',
    "closing": "</pre></td></table><h1>escaped</h1><pre>",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7} &lt;b&gt;",
    "long": "entropy " * 1_250,
    "unbroken": "x" * 10_000,
    "emoji": "🧪👩🏽‍🔬 ∑∫ 𝔸 " * 5,
    "right to left": "‮שלום עולם 123 — مرحبا بالعالم",
    "control": "a\x07b\x1b[31mred\tc\r\nd",
}
"""By what is wrong with them."""
