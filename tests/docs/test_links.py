"""Links between files of the repository, as a reader on the disk or on GitHub follows them."""

import re

import pytest

from tests.docs.pages import PAGES, SOUNDS, anchors, links, name_of, prose


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if SOUNDS in target.parents and not SOUNDS.exists():
            continue
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_in_fences_where_the_other_tests_find_them(page):
    unfenced = re.findall(r"^    (?:python|pip|make|waveglow-vq|torchrun|cd) .*", prose(page), re.M)
    assert unfenced == []
