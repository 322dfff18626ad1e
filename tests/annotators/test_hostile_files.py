"""Files that mean harm, or are damaged: one line that names the file, no entity, no memory."""

import json
import random
import resource
import zipfile

import made_answers as made
import pytest

from claus.annotators import limits
from claus.annotators.cvat import recognizes, write_tasks
from claus.annotators.readers import read_answers
from claus.utils.runtime import UserError

BOMB = '<!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
IMAGE = '<image id="0" name="x" width="80" height="60">{}</image>'


def refused(path):
    with pytest.raises(UserError) as error:
        read_answers([path], made.request(0), made.pool())
    text = str(error.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 600
    return text


@pytest.mark.parametrize(
    "content, words",
    [
        (f"<?xml version='1.0'?>{BOMB}<annotations>&b;</annotations>", "DOCTYPE"),
        (f"{OUTSIDE}<annotations>&a;</annotations>", "DOCTYPE"),
        ("<!DOCTYPE x SYSTEM 'http://127.0.0.1/x.dtd'><annotations/>", "DOCTYPE"),
        ("<annotations>&a;</annotations>", "not whole XML"),
        ("<annotations>" + "<a>" * 1000, "more than 32 elements inside one another"),
        ("<html><body/></html>", "its root is <html>"),
        ("<annotations><image", "not whole XML"),
        ("<annotations></annotations>", "none of its pictures"),
        (f"<annotations>{IMAGE.format('')}</annotations>", "none of its pictures"),
        ("<annotations><track id='0'/></annotations>", "CVAT for video 1.1"),
        ("hello", "is none of"),
        ("[" * 100_000, "not JSON, or damaged"),
        ('[{"data": {"x": NaN}}]', "not JSON, or damaged"),
        ("[1, 2]", "not a Label Studio export"),
        ('{"images": []}', "not a request or its answers"),
    ],
)
def test_one_line_names_the_file(tmp_path, content, words):
    path = tmp_path / "given.file"
    path.write_text(content)
    assert words in refused(path)


@pytest.mark.parametrize(
    "shape, words",
    [
        ('<box label="jump" xtl="1e400" ytl="0" xbr="1" ybr="1"/>', "no number"),
        ('<box label="jump" ytl="0" xbr="1" ybr="1"/>', "xtl is '', no number"),
        ('<box label="jump" xtl="1" ytl="0" xbr="9" ybr="9" rotation="30"/>', "is rotated"),
        ('<ellipse label="jump"/>', "mark actors with boxes"),
        ('<box label="nobody" xtl="1" ytl="1" xbr="9" ybr="9"/>', "unknown class 'nobody'"),
    ],
)
def test_a_bad_shape_keeps_its_picture_open(tmp_path, shape, words):
    request = made.request(0)
    path = write_tasks(request, tmp_path, tmp_path, {n: (60, 80) for n in made.NAMES})[0]
    path.write_text(path.read_text().replace("</image>", f"{shape}</image>", 1))
    form, notes = read_answers([path], request, made.pool())
    assert form["videos"][0]["frames"][0]["actors"] is None
    assert words in str(notes.problems)


@pytest.mark.parametrize("rle", ["1, 2", "4800000000, 1", "-1, 4801", "x"])
def test_a_bad_mask_keeps_its_picture_open(tmp_path, rle):
    request = made.request(0, "masks")
    path = write_tasks(request, tmp_path, tmp_path, {n: (60, 80) for n in made.NAMES})[0]
    mask = f'<mask label="jump" rle="{rle}" left="0" top="0" width="80" height="60"/>'
    path.write_text(path.read_text().replace("</image>", f"{mask}</image>", 1))
    _, notes = read_answers([path], request, made.pool())
    assert "<mask>: its rle" in str(notes.problems)


def test_zip_bombs_are_stopped_by_what_they_say_and_by_what_they_are(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    text = b"<annotations>" + b" " * (64 << 20) + b"</annotations>"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", text)
    assert path.stat().st_size < 1 << 17 and recognizes(limits.head_of(path))
    monkeypatch.setattr(limits, "BYTES", 8 << 20)
    assert "unpacks to more than 8 MB" in refused(path)
    whole = path.read_bytes()
    said = len(text).to_bytes(4, "little")
    assert whole.count(said) == 2
    path.write_bytes(whole.replace(said, (1000).to_bytes(4, "little")))  # it lies
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refused(path)
    assert "damaged zip" in message or "unpacks to more than" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize("content", [b"PK\x03\x04 not a zip", b"PK\x05\x06" + b"\0" * 18])
def test_damaged_and_empty_zips(tmp_path, content):
    path = tmp_path / "job.zip"
    path.write_bytes(content)
    refused(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "huge.xml"
    with open(path, "wb") as file:
        file.write(b"<annotations>")
        file.truncate(1 << 30)
    assert "has 1024 MB, more than the 512 MB" in refused(path)
    assert "is a folder" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "none.xml")


def test_files_of_endless_small_things_are_stopped(tmp_path, monkeypatch):
    path = tmp_path / "many"
    monkeypatch.setattr(limits, "VALUES", 1000)
    path.write_text("[" + "{}," * 2000)
    assert "more than 1,000 values" in refused(path)
    monkeypatch.setattr(limits, "NODES", 1000)
    path.write_text("<annotations><image>" + "<box/>" * 2000)
    assert "more than 1,000 elements in one picture" in refused(path)
    monkeypatch.setattr(limits, "TEXT", 1000)
    path.write_text("<annotations><image>" + "x" * 2000)
    assert "of text" in refused(path)


def test_random_damage_is_a_line_or_is_taken_and_never_a_crash(tmp_path):
    """Bytes of good files are changed, dropped and doubled, 300 times."""
    from claus.annotators import cvat, label_studio

    rng, request = random.Random(0), made.request(4)
    form = made.fill_in(made.request(4), 4)
    sizes = {n: (60, 80) for n in made.NAMES}
    originals = [
        tool.write_tasks(form, tmp_path, tmp_path, sizes)[0].read_bytes()
        for tool in (cvat, label_studio)
    ]
    path = tmp_path / "damaged"
    for number in range(300):
        content = bytearray(originals[number % 2])
        for _ in range(rng.choice([1, 3, 20])):
            at = rng.randrange(1, len(content))
            kind = rng.random()
            if kind < 0.5:
                content[at] = rng.randrange(256)
            elif kind < 0.8:
                del content[at : at + rng.randrange(1, 9)]
            else:
                content[at:at] = content[at : at + rng.randrange(1, 30)]
        path.write_bytes(bytes(content))
        try:
            read_answers([path], request, made.pool())
        except UserError as error:
            assert "\n" not in str(error)


def test_values_of_other_kinds_in_label_studio_are_told(tmp_path):
    """Every value of a good export becomes, one after another, something else."""
    from claus.annotators import label_studio

    request, sizes = made.request(6), {n: (60, 80) for n in made.NAMES}
    form = made.fill_in(made.request(6), 6)
    tasks = json.loads(
        label_studio.write_tasks(form, tmp_path, tmp_path, sizes)[0].read_text()
    )[:6]
    places = []

    def walk(value, path):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            places.append((*path, key))
            if isinstance(inner, dict | list):
                walk(inner, (*path, key))

    walk(tasks, ())
    path = tmp_path / "odd.json"
    for number, place in enumerate(places):
        odd = json.loads(json.dumps(tasks))
        holder = odd
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = (None, "x", -1, [], {}, 1e300, True)[number % 7]
        path.write_text(json.dumps(odd))
        try:
            read_answers([path], request, made.pool())
        except UserError as error:
            assert "\n" not in str(error)
