"""The appendix: the code's own documentation, the columns of the published tables with their files, how to cite. Each
function returns a part of a page, as Markdown.
"""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

import pandas as pd

from companion import table
from companion.coverage import markdown
from companion.errors import TableUnavailable
from companion.paths import RESULTS, ROOT

GROUPS = {
    "What a trial is": ("trial", "layers", "interventions", "protocols", "seeds", "experiments", "profiles"),
    "Running a trial": ("models", "tasks", "encoders", "linear", "finetune", "probe", "provenance", "tuning"),
    "Running many": ("sweep", "executors", "cluster", "store", "remote", "replay", "schedule", "speed"),
    "From results to numbers": ("table", "coverage", "study", "stats", "comparisons", "authors"),
    "From numbers to verdicts": ("scores", "cases", "quantities", "ledger", "claims"),
    "From numbers to figures": ("views", "figures", "worth", "surgery", "explorer", "theme"),
    "From figures to pages": ("diagrams", "embed", "pages", "widgets"),
    "Parts of pages": ("generated", "stacks", "handbook", "lessons", "reference"),
    "The book and the command line": ("notebooks", "book", "doctor", "cli", "paths", "errors"),
}
PACKAGES = {"commands": "The commands", "pocket": "The generated language"}


def reference() -> str:
    """Every module's public names with their docstrings, read from the source without running it."""
    folder = Path(__file__).resolve().parent
    parts = []
    for heading, names in GROUPS.items():
        parts.append(f"## {heading}\n")
        parts += [_module(folder / f"{name}.py") for name in names]
    for package, heading in PACKAGES.items():
        parts.append(f"## {heading}\n")
        parts += [_module(path) for path in sorted((folder / package).glob("[!_]*.py"))]
    return "\n".join(parts)


def _module(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = path.parent.name in PACKAGES
    name = f"companion.{f'{path.parent.name}.' if inside else ''}{path.stem}"
    head = f"({name.replace('.', '-').replace('_', '-')})=\n### {name}\n\n{_prose(ast.get_docstring(tree))}\n"
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    parts = []
    for node in public:
        parts.append(_documented(node))
        if isinstance(node, ast.ClassDef):
            methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
            parts += [_documented(n, f"{node.name}.") for n in methods if ast.get_docstring(n)]
    if not public:
        return head
    return f"{head}\n::::{{dropdown}} {', '.join(node.name for node in public)}\n{chr(10).join(parts)}\n::::\n"


def _documented(node: ast.FunctionDef | ast.ClassDef, owner: str = "") -> str:
    if isinstance(node, ast.FunctionDef):
        returns = f" → {ast.unparse(node.returns)}" if node.returns else ""
        signature = f"{owner}{node.name}({ast.unparse(node.args)}){returns}"
        if any(ast.unparse(d) in ("property", "cached_property") for d in node.decorator_list):
            signature = f"{owner}{node.name}{returns}"
    else:
        own = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        signature = f"class {node.name}({', '.join(ast.unparse(n) for n in own)})"
    text = _prose(ast.get_docstring(node)) or "–"
    return f'<p class="companion-signature"><code>{html.escape(signature)}</code></p>\n\n{text}\n'


_ROLE = re.compile(r":(?:class|func|mod|meth|data):`([^`]*)`")


def _prose(docstring: str | None) -> str:
    """A docstring as Markdown: roles and double backticks become code, and Markdown's own signs mean themselves."""
    text = _ROLE.sub(r"`\1`", docstring or "").replace("``", "`")
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([<*_$\[\]])", r"\\\1", p) for p in parts)


def columns() -> str:
    """The columns of the published tables: type, meaning as in results/README.md, and a value as an example."""
    meanings = column_meanings()
    rows = pd.concat([table.published(name) for name in table.published_profiles()])
    shown = []
    for name, kind in table.COLUMNS.items():
        values = rows[name].dropna()
        values = values[values.astype(str) != ""]
        example = f"`{values.iloc[len(values) // 2]}`" if len(values) else "–"
        shown.append({"column": f"`{name}`", "type": kind, "meaning": meanings[name], "for example": example})
    return markdown(pd.DataFrame(shown))


def column_meanings() -> dict[str, str]:
    """Column → what results/README.md says of it."""
    section = (RESULTS / "README.md").read_text(encoding="utf-8").partition("## Columns")[2].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        if match := re.match(r"\| `(\w+)` \| (.*) \|$", line):
            found[match[1]] = match[2]
    return found


def downloads(folder: Path) -> str:
    """Links to the published tables, which are copied beside the page; their rows and sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in table.published_profiles():
        for suffix, told in (("csv", "CSV"), ("parquet", "Parquet")):
            path = RESULTS / f"{name}.{suffix}"
            if not path.is_file():
                raise TableUnavailable(f"{path} is missing beside its twin", "restore it, or publish the profile again")
            (folder / path.name).write_bytes(path.read_bytes())
            link = f"{{download}}`{path.name} <_generated/{folder.name}/{path.name}>`"
            size = f"{path.stat().st_size / 1000:,.0f} kB"
            rows.append({"file": link, "format": told, "rows": f"{len(table.published(name)):,}", "size": size})
    for path in sorted(RESULTS.glob("*.csv")):
        if path.stem not in table.published_profiles():
            (folder / path.name).write_bytes(path.read_bytes())
            link, count = f"{{download}}`{path.name} <_generated/{folder.name}/{path.name}>`", len(pd.read_csv(path))
            size = f"{path.stat().st_size / 1000:,.0f} kB"
            rows.append({"file": link, "format": "CSV", "rows": f"{count:,}", "size": size})
    return markdown(pd.DataFrame(rows))


def changelog() -> str:
    """CHANGELOG.md without its title, and without its links to files that are not pages of the book."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2].lstrip()
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)


def bibtex() -> str:
    """BibTeX entries of the paper and of this companion, from CITATION.cff."""
    import yaml

    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = cff["preferred-citation"]
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    arxiv = next(i["value"] for i in paper["identifiers"] if i["value"].startswith("arXiv"))
    ours = " and ".join(f"{{{a['name']}}}" for a in cff["authors"])
    return (
        "```bibtex\n"
        f"@inproceedings{{tamkin2020,\n  author = {{{authors}}},\n  title = {{{paper['title']}}},\n"
        f"  booktitle = {{{paper['collection-title']}}},\n  pages = {{{paper['start']}--{paper['end']}}},\n"
        f"  year = {{{paper['year']}}},\n  doi = {{{paper['doi']}}},\n  note = {{{arxiv}}}\n}}\n\n"
        f"@software{{companion,\n  author = {{{ours}}},\n  title = {{{cff['title']}}},\n"
        f"  version = {{{cff['version']}}},\n  license = {{{cff['license']}}}\n}}\n```\n"
    )
