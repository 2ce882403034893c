"""Pieces of the report's HTML page. Everything that comes from outside is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

_CSS = """
:root { --ink: #16202a; --soft: #5b6875; --line: #dde3e9; --paper: #ffffff; --tint: #f4f7fa; --mark: #1f6feb; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--tint); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 18px 0 8px; }
p { margin: 0 0 10px; } .soft { color: var(--soft); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-top: 18px; }
nav a { margin-right: 14px; color: var(--mark); text-decoration: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); gap: 10px; margin-top: 16px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
.card b { display: block; font-size: 22px; line-height: 1.3; white-space: nowrap; }
.card span { color: var(--soft); font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 18px; align-items: start; }
figure { margin: 0; }
figure img { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
figcaption { font-size: 13px; color: var(--soft); margin-top: 4px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; } th:first-child, td:first-child { text-align: left; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 6px; padding: 12px; overflow-x: auto;
  margin: 0; font: 13px/1.5 ui-monospace, Consolas, monospace; }
.notice { border-left: 4px solid #c98a00; } .notice li { margin-bottom: 3px; }
@media (max-width: 560px) { .grid { grid-template-columns: 1fr; } }
"""


@dataclass
class Draft:
    """A page while it grows: sections (anchor, heading, HTML) and what could not be shown."""

    folder: Path
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, anchor: str, heading: str, html: str) -> None:
        """One more section."""
        self.sections.append((anchor, heading, html))

    def can_plot(self, what: str) -> bool:
        """Whether figures can be drawn; if not, `what` is missing from the page."""
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            self.missing.append(f"{what}: matplotlib is not installed (pip install 'torso[plots]').")
            return False
        return True


def page(title: str, intro: str, sections: Sequence[tuple[str, str, str]], lead: str) -> str:
    """The whole document. sections: (anchor, heading, HTML); intro is text; lead is HTML under the title."""
    links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections)
    bodies = "".join(
        f'<section id="{anchor}"><h2>{escape(heading)}</h2>{body}</section>' for anchor, heading, body in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>\n"
        f'<body><main><h1>{escape(title)}</h1><p class="soft">{escape(intro)}</p><nav>{links}</nav>{lead}{bodies}'
        "</main></body></html>\n"
    )


def cards(numbers: Sequence[tuple[str, str]]) -> str:
    """Headline numbers: (what, value)."""
    inner = "".join(f'<div class="card"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in numbers)
    return f'<div class="cards">{inner}</div>'


def notice(lines: Sequence[str]) -> str:
    """What is missing from the report and why; nothing for no lines."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section class="notice"><h2>Not in this report</h2><ul>{items}</ul></section>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and the others numbers."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figures(shown: Sequence[tuple[str, str]]) -> str:
    """A grid of images: (file inside the report folder, caption)."""
    inner = "".join(
        f'<figure><a href="{escape(file)}"><img src="{escape(file)}" alt="{escape(caption)}" loading="lazy"></a>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for file, caption in shown
    )
    return f'<div class="grid">{inner}</div>'


def heading(text: str) -> str:
    """A small heading inside a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """One paragraph of text."""
    return f"<p>{escape(text)}</p>"


def code(text: str) -> str:
    """Text as it is, in a fixed-width font."""
    return f"<pre>{escape(text)}</pre>"


def write(file: Path, text: str) -> None:
    """UTF-8, written beside and moved into place, so that a page is never half there."""
    part = file.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
