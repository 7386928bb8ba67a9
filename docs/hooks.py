"""What the site takes from the repository when it is built: executed notebooks and modules.

MkDocs calls these functions. The navigation of ``mkdocs.yml`` gets the copies of notebooks that
there are, a page of the reference for each room of the library, and every page that is not
named; so a new notebook, module or page needs no line anywhere.
"""

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import get_toc

sys.path.insert(0, str(Path(__file__).parent))
import execute

from trfnb.cli import build_app

PACKAGE = execute.ROOT / "trfnb"
LIST = "<!-- notebooks -->"
HEADING = re.compile(r'<h([1-6]) id="([^"]+)">((?:(?!</h).)*?)<a class="anchor-link"', re.S)
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.S)
ROOMS = ("flow", "pipe", "corpora", "vectors", "pretraining", "experiments", "runs", "widgets")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation."""
    docs = Path(config.docs_dir)
    named = set(pages_of(config.nav))
    for section in config.nav:
        ((title, pages),) = section.items()
        if title == "Tutorials":
            copies = [e for e in map(execute.entry, execute.sources()) if e.executed]
            pages += [{e.title.replace("`", ""): f"notebooks/{e.name}.ipynb"} for e in copies]
        elif title == "Reference":
            pages += [{title: f"reference/{name}.md"} for name, title in rooms().items()]
        elif isinstance(pages, list):
            folder = docs / Path(pages[0]).parent
            found = [path.relative_to(docs).as_posix() for path in sorted(folder.glob("*.md"))]
            pages += [path for path in found if path not in named]
    top = [path.name for path in sorted(docs.glob("*.md")) if path.name not in named]
    config.nav[1:1] = top
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page of the reference for each room."""
    for name in rooms():
        page = f"reference/{name}.md"
        files.append(File.generated(config, page, content=reference(name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the list of notebooks where the start page asks for it."""
    if LIST not in markdown:
        return markdown
    lines = []
    for one in map(execute.entry, execute.sources()):
        shown = f"[{one.title}](notebooks/{one.name}.ipynb)" if one.executed else one.title
        asked = "" if one.question in one.title else f"  \n    {one.question}"
        found = f"  \n    *{one.finding}*" if one.finding else ""
        lines.append(f"-   **{shown}**{asked}{found}")
    return markdown.replace(LIST, "\n".join(lines))


def on_page_content(content: str, page: Page, **_: Any) -> str:
    """Make a notebook's table of contents of the headings that nbconvert wrote, code included."""
    if page.file.src_uri.endswith(".ipynb"):
        top: list[dict[str, Any]] = []
        above = [(0, top)]
        for level, name, text in HEADING.findall(content):
            title = re.sub("<.*?>", "", text).strip()
            one = {"level": int(level), "id": name, "name": title, "children": []}
            while above[-1][0] >= one["level"]:
                above.pop()
            above[-1][1].append(one)
            above.append((one["level"], one["children"]))
        page.toc = get_toc(top)
    return content


def on_post_page(output: str, **_: Any) -> str:
    """Leave out what nbconvert would load from another host: diagrams that no notebook has."""
    return MERMAID.sub("", output)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site with a broken link, or that loads anything from another host.

    Raises:
        PluginError: with one line for each.
    """
    site = Path(config.site_dir).resolve()
    pages = {path: Links(path) for path in sorted(site.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        for target in page.loaded + page.linked:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loaded and parts.scheme != "data":
                    wrong.append(f"{path.relative_to(site)} loads {target}")
                continue
            start = site if parts.path.startswith("/") else path.parent
            there = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            names = pages[there].names if there in pages else {unquote(parts.fragment)}
            if not there.exists() or (parts.fragment and unquote(parts.fragment) not in names):
                wrong.append(f"{path.relative_to(site)} leads to {target}, which is not there")
    if wrong:
        raise PluginError("\n".join(wrong))


class Links(HTMLParser):
    """Where a page leads, what it loads with itself, and the names in it that links may give."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.linked: list[str] = []
        self.loaded: list[str] = []
        self.names = {"", "__skip"}
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Collect from a tag."""
        found = {name: value for name, value in attributes if value}
        self.names |= {found.get("id", ""), found.get("name", "")}
        if tag == "a" and "href" in found:
            self.linked.append(found["href"])
        elif tag == "link" and {"stylesheet", "icon", "preconnect"} & {
            *found.get("rel", "").split()
        }:
            self.loaded.append(found["href"])
        elif tag in ("script", "img", "iframe", "source", "video") and "src" in found:
            self.loaded.append(found["src"])


def pages_of(nav: list[Any]) -> list[str]:
    """Return the pages that a navigation names."""
    found = []
    for one in nav:
        if isinstance(one, str):
            found.append(one)
        else:
            for pages in one.values():
                found += [pages] if isinstance(pages, str) else pages_of(pages)
    return found


def rooms() -> dict[str, str]:
    """Return the names of the reference's pages, each with its title."""
    rooms = {room: f"trfnb.{room}" for room in ROOMS}
    return rooms | {"top": "trfnb, plots, models, files", "commands": "Command line"}


def reference(name: str) -> str:
    """Return a page of the reference: the modules of a room, or the commands."""
    if name == "commands":
        return _commands()
    folder = PACKAGE if name == "top" else PACKAGE / name
    lines = [f"# {rooms()[name]}", "", _docstring(folder / "__init__.py"), ""]
    for path in sorted(folder.glob("*.py")):
        # Commands have a page of their own.
        if path.stem != "commands" and not path.stem.startswith("_"):
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            lines += [f"::: {module}", "    options: {heading_level: 2}", ""]
    return "\n".join(lines)


def _commands() -> str:
    """Return what every command says of itself."""
    app = typer.main.get_command(build_app())
    top = app.context_class(app, info_name="trfnb")
    lines = ["# Command line", "", "```text", app.get_help(top), "```", ""]
    waiting = [(name, one, top) for name, one in app.commands.items()]
    while waiting:
        name, command, above = waiting.pop(0)
        here = command.context_class(command, info_name=name, parent=above)
        if hasattr(command, "commands"):  # a group
            waiting[:0] = [(inner, one, here) for inner, one in command.commands.items()]
        else:
            lines += [f"## {here.command_path}", "", "```text", command.get_help(here), "```", ""]
    return "\n".join(lines)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf8"))) or ""
