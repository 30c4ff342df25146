"""Chat messages as a model's template is given them."""

from __future__ import annotations


def chat_messages(text: str, *, system: str | None, system_role: str) -> list[dict[str, str]]:
    """The messages of one question.

    Args:
        system_role: ``system`` gives the system message a turn of its own; ``fold`` puts it before the
            question, a blank line between them, for templates that refuse such a turn.
    """
    if not system:
        return [{"role": "user", "content": text}]
    if system_role == "fold":
        return [{"role": "user", "content": f"{system}\n\n{text}"}]
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]
