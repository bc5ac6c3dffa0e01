"""The examples run: ```python and ```bash of a page from top to bottom, in one folder that holds
what they name (see conftest.py). A block with title="FILE" is that file, whatever its language;
```py is only compiled, ```console only read, in test_command_lines.py."""

import pytest

from tests.docs.pages import PAGES, blocks, name_of, write_files

RUN = ("python", "py", "bash")
SLOW = ("CONTRIBUTING.md", "docs/onnx.md")  # they train, and export an ONNX graph
WITH_EXAMPLES = [
    pytest.param(page, marks=pytest.mark.slow if name_of(page) in SLOW else ())
    for page in PAGES
    if any(block.language in RUN for block in blocks(page))
]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
def test_examples_run(page, place, bash):
    write_files(page, place)
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if block.title:
            continue
        if block.language in ("python", "py"):
            # Line numbers of errors are those of the page.
            code = compile("\n" * block.line + block.code, page, "exec")
            if block.language == "python":
                exec(code, namespace)
        elif block.language == "bash":
            status, said = bash(block.code)
            assert status == 0, f"{name_of(page)}, line {block.line}:\n{said}"
