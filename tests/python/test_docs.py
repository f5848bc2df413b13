"""Documentation that cannot lie: quoted code is in the files, links and pictures exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def quotes(page):
    """Pairs of file and text: fenced blocks whose first line also names a file."""
    return re.findall(r"^```\w+ (\S+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_code_is_in_the_file(page):
    for file, block in quotes(page):
        assert block in (ROOT / file).read_text(), f"{page.name} quotes {file}:\n{block}"


def test_add_an_op_quotes_every_file_to_be_touched():
    quoted = {file for file, _ in quotes(ROOT / "docs" / "add_an_op.md")}
    assert {"engine/ops/relu.cpp", "engine/ops.h", "python/bindings/ops.cpp"} <= quoted


def test_add_an_op_names_every_member_of_opdef():
    header = (ROOT / "engine" / "op.h").read_text()
    body = re.search(r"^struct OpDef {\n(.*?)^};", header, re.MULTILINE | re.DOTALL)[1]
    code = re.sub(r"//.*", "", body)
    functions = set(re.findall(r"\(\*(\w+)\)\(", code))
    values = set(re.findall(r"^  [\w:<>, ]+\*? \*?(\w+)(?:{}| = [^;(]+)?;$", code, re.MULTILINE))
    page = (ROOT / "docs" / "add_an_op.md").read_text()
    named = set(re.findall(r"(?:`|\.)(\w+)", page))
    assert functions >= {"infer", "backward", "cpu"}
    assert values >= {"name", "overwrites"}
    assert (functions | values) - named == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_files(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page):
    folders = "memory|engine|layers|models|train|interop|cli|python|examples|bench|tests|docs"
    named = re.findall(rf"`((?:{folders})/[\w/]+\.(?:h|cpp|py|txt|md))`", page.read_text())
    for file in named:
        assert (ROOT / file).exists(), f"{page.name} names {file}"
