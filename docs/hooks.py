"""What MkDocs calls while it builds the site: notebooks are executed and become pages, and formulas
become MathML, which browsers draw by themselves."""

import html
import re
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

SECONDS = 600
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)

REQUEST = re.compile(r'<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)="(https?:[^"]*)"')


class NotebookPage(File):
    """A notebook that other pages link to by its own name."""

    def is_documentation_page(self) -> bool:
        return True


def executed(path: Path) -> tuple[str, dict[str, bytes]]:
    """The notebook with what it prints, as Markdown, and its pictures by file name. Raises
    nbclient's CellExecutionError where a cell fails."""
    notebook = NotebookClient(nbformat.read(path, as_version=4), timeout=SECONDS).execute()
    names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, found = MarkdownExporter().from_notebook_node(notebook, resources=names)
    return text, found["outputs"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site, with a page for each notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        assert file.abs_src_path is not None
        text, pictures = executed(Path(file.abs_src_path))
        files.remove(file)
        files.append(NotebookPage.generated(config, file.src_uri, content=text))
        for name, content in pictures.items():
            beside = f"{Path(file.src_uri).parent.as_posix()}/{name}"
            files.append(File.generated(config, beside, content=content))
    return files


def _mathml(display: str) -> Any:
    return lambda found: convert(html.unescape(found[1]).strip(), display=display)


def on_page_content(content: str, **_: Any) -> str:
    """The page with the formulas that arithmatex has marked as MathML."""
    return INLINE.sub(_mathml("inline"), DISPLAY.sub(_mathml("block"), content))


def on_post_page(output: str, **_: Any) -> str:
    """The finished page. Raises PluginError where a browser would ask the network for something."""
    if found := REQUEST.search(output):
        raise PluginError(f"a page asks the network for {found[1]}: the site is read offline")
    return output
