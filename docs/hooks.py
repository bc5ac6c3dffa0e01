"""What mkdocs.yml asks for beside pages: those from elsewhere in the repository, the API reference
with a page for each package, and docstrings in SpeechBrain's form.
"""

import os
import re
from pathlib import Path

from griffe import Extension
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "waveglow_vq"
# Pages whose file is not in docs/; links to them may stand in any page.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE.txt",
} | {f"recipes/{name}/README.md": f"recipes/{name}.md" for name in ("LJSpeech", "VCTK")}
# [text](target), [name]: target and the attributes of HTML.
_LINKS = re.compile(r'(\]\(|^\[[^\]]+\]: |\b(?:src|href)=")([^)"#\s:]+)(?=[)"#\s])', re.MULTILINE)


def packages():
    """The public modules of every package, by its name.

    Returns
    -------
    dict
        Dotted name of a package: those of its modules, the package itself first.
    """
    found = {}
    for folder in sorted(path.parent for path in (ROOT / PACKAGE).rglob("__init__.py")):
        name = ".".join(folder.relative_to(ROOT).parts)
        modules = sorted(path.stem for path in folder.glob("*.py") if path.stem[0] != "_")
        found[name] = [name, *(f"{name}.{module}" for module in modules)]
    return found


def on_config(config):
    """Puts the API reference into the navigation, before the pages for contributors."""
    pages = [f"api/{name}.md" for name in packages()]
    position = next(i for i, entry in enumerate(config.nav) if "Contributing" in entry)
    config.nav.insert(position, {"API reference": pages})
    return config


def on_files(files, config):
    """Adds the pages that are not in docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for name, modules in packages().items():
        text = f"# {name}\n\n" + "\n".join(f"::: {module}\n" for module in modules)
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown, page, **_):
    """Turns links between files of the repository into links between pages of the site."""
    sources = {target: source for source, target in PAGES.items()}
    here = page.file.src_uri
    folder = os.path.dirname(sources.get(here, f"docs/{here}"))

    def relinked(match):
        target = os.path.normpath(os.path.join(folder, match[2]))
        target = PAGES.get(target, target.removeprefix("docs/") if "docs/" in target else None)
        if target is None:
            return match[0]
        return match[1] + os.path.relpath(target, os.path.dirname(here))

    return _LINKS.sub(relinked, markdown)


class SpeechBrainDocstrings(Extension):
    """Reads docstrings of SpeechBrain's form as numpydoc's, which differs in two headings, and
    roles of reStructuredText as code."""

    def on_object(self, *, obj, **_):
        """Called by griffe for every module, class, function and attribute."""
        if obj.docstring is None:
            return
        # Fields of a NamedTuple: griffe knows no signature that they would belong to.
        fields = obj.is_class and "NamedTuple" in map(str, obj.bases)
        text = obj.docstring.value
        for ours, theirs in (
            ("Arguments", "Attributes" if fields else "Parameters"),
            ("Example", "Examples"),
        ):
            text = re.sub(rf"^{ours}\n-+$", f"{theirs}\n---", text, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
