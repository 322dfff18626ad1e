"""Commands of the README and of docs/ are understood by their scripts, links lead
somewhere, pages are short.
"""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from claus.flags import cycles, detection, evaluation, label, scoring, selection, semi, training

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
PARSERS = {
    "claus_select.py": selection.parse,
    "cluster_extract.py": scoring.parse,
    "detect.py": detection.parse,
    "evaluate.py": evaluation.parse,
    "label.py": label.parse,
    "export.py": detection.parse_export,
    "run_cycles.py": cycles.parse,
    "train_jhmdb.py": lambda argv: training.parse(argv, "jhmdb"),
    "train_semi.py": semi.parse,
    "train_ucf101.py": lambda argv: training.parse(argv, "ucf101"),
}
WORDS = {
    "README.md": 1100,
    "results.md": 2500,
    "protocol.md": 1000,
    "status.md": 1500,
    "layout.md": 6000,
}  # other pages 800


def blocks(page):
    return [block for block in page.split("```")[1::2]]


def filled_in(line, variables):
    return re.sub(r"\$([A-Z])", lambda name: variables[name[1]], line)


def commands():
    """[(script, words)] of every line of a page's blocks that runs one of our scripts; a
    variable holds from where it is set to the end of its page.
    """
    found = []
    for page in PAGES.values():
        variables = {"O": "--oracle pyannot.pkl --test-list testlist01.txt"}  # said in words
        for line in "\n".join(blocks(page)).replace("\\\n", " ").splitlines():
            if setting := re.match(r'^([A-Z])="(.*)"', line):
                variables[setting[1]] = setting[2]
            elif line.startswith(("python ", "torchrun ")):
                words = shlex.split(filled_in(line, variables), comments=True)
                scripts = [place for place, word in enumerate(words) if word.endswith(".py")]
                if scripts:
                    found.append((words[scripts[0]], tuple(words[scripts[0] + 1 :])))
    return found


def test_there_are_commands_of_every_script():
    scripts = {script for script, _ in commands()}
    others = {"training.py", "engine.py", "batch_parts.py", "setup.py"}
    assert {path.name for path in ROOT.glob("*.py")} - others <= scripts


@pytest.mark.parametrize(
    ("script", "words"), commands(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_is_understood(script, words):
    parse = PARSERS.get(script)
    if parse is None:
        name = script.removesuffix(".py").replace("/", ".")
        module = importlib.import_module(f"claus.{name}" if "." in name else name)
        parse = getattr(module, "parse_args", None)
    if parse is None:
        assert not words
    else:
        parse(list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_is_for_one_sitting(page):
    assert len(PAGES[page].split()) <= WORDS.get(page.name, 800)


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\(docs/([^)#]+)\)", README))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    """Links to the web are not followed."""
    links = [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page])
        if not link.startswith("http")
    ]
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert heading in {
                re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles
            }, link
