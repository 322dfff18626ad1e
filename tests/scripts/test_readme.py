"""Commands of the README and of docs/ are understood by their scripts, links lead
somewhere, every module is named.
"""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from claus.flags import cycles, evaluation, scoring

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
BLOCKS = [block for page in PAGES.values() for block in page.split("```")[1::2]]


def commands():
    """[(script, words)] of every line of the README's blocks that runs one of our scripts,
    variables filled in.
    """
    found = []
    for block in BLOCKS:
        variables = {}
        for line in block.replace("\\\n", " ").splitlines():
            if setting := re.match(r'^([A-Z])="(.*?)"', line):
                variables[setting[1]] = setting[2]
                continue
            if not line.startswith(("python ", "torchrun ")):
                continue
            for part in line.split("&&"):
                part = re.sub(
                    r"\$([A-Z])", lambda name, known=variables: (DEFAULT | known)[name[1]], part
                )
                words = shlex.split(part, comments=True)
                scripts = [place for place, word in enumerate(words) if word.endswith(".py")]
                if scripts:
                    found.append((words[scripts[0]], tuple(words[scripts[0] + 1 :])))
    return found


DEFAULT = {
    "O": "--oracle pyannot.pkl --test-list testlist01.txt"
}  # said in words above the first block


PARSERS = {
    "cluster_extract.py": scoring.parse,
    "evaluate.py": evaluation.parse,
    "run_cycles.py": cycles.parse,
}


def test_there_are_commands_of_every_script():
    scripts = {script for script, _ in commands()}
    assert {path.name for path in ROOT.glob("*.py")} - {
        "training.py",
        "engine.py",
        "flags.py",
        "setup.py",
    } <= scripts


@pytest.mark.parametrize(
    ("script", "words"), commands(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_is_understood(script, words):
    if script in PARSERS:
        PARSERS[script](list(words))
        return
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    if not hasattr(module, "parse_args"):
        assert not words
        return
    module.parse_args(list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    """Links to the web are not followed."""
    links = [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page])
        if not link.startswith("http")
    ]
    assert links or page.name == "layout.md"  # generated, a list of modules
    for link in links:
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert heading in {
                re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles
            }, link
