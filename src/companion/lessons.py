"""The Teach boxes at the end of chapters, collected: goals, minutes and questions for whoever teaches from the book."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import yaml

from companion.coverage import markdown
from companion.paths import NOTEBOOKS, ROOT

TEACH = re.compile(r":::\{admonition\} Teach\n:class: companion-teach\n(.*?)\n:::", re.DOTALL)
MINUTES = re.compile(r"\*\*Minutes\.\*\* (\d+)")


def lessons() -> dict[str, tuple[str, str]]:
    """Page (as _toc.yml names it) → its title and the text of its Teach box, for pages that have one, in book order."""
    found = {}
    for name in chapters():
        path = ROOT / f"{name}.md"
        if path.is_file():
            text = path.read_text(encoding="utf-8")
        else:
            cells = json.loads((NOTEBOOKS.parent / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
            text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        if match := TEACH.search(text):
            found[name] = (re.search(r"^# (.*)", text, re.MULTILINE)[1], match[1])
    return found


def chapters() -> list[str]:
    """Every page but the first, in the order of the table of contents."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    return [chapter["file"] for part in parts for chapter in part["chapters"]]


def lesson_table() -> str:
    """One row per chapter with a Teach box: its minutes, and its goals."""
    rows = []
    for name, (title, text) in lessons().items():
        goals = re.search(r"\*\*Goals\.\*\* (.*?)(?=\n\n|\Z)", text, re.DOTALL)[1]
        link = f"{Path(name).name}.md" if name.startswith("book/") else f"../{name}.ipynb"
        rows.append(
            {"chapter": f"[{title}]({link})", "minutes": MINUTES.search(text)[1], "goals": " ".join(goals.split())}
        )
    total = sum(int(row["minutes"]) for row in rows)
    return markdown(pd.DataFrame(rows)) + f"\nAll chapters together: {total // 60} hours {total % 60} minutes.\n"
