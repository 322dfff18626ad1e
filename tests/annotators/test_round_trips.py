"""Label Studio and CVAT for images: what is written is read again as it was."""

import copy
import importlib.util
import json
import os
import subprocess
import sys
import zipfile

import made_answers as made
import numpy as np
import pytest
from PIL import Image

from claus.annotators import cvat, label_studio
from claus.annotators.mend import NONE
from claus.annotators.pictures import Pictures, VideoNames, picture_names
from claus.annotators.readers import read_answers
from claus.datasets.labels.masks import encode_rle

TOOLS = {"label_studio": label_studio, "cvat": cvat}
SIZES = {name: (60, 80) for name in made.NAMES}


def there_and_back(tool, form, request, folder, pool=None):
    """(form, notes) of a form that went through a tool's file."""
    path = TOOLS[tool].write_tasks(form, folder, folder / "frames", SIZES)[0]
    return read_answers([path], request, pool or made.pool())


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(12))
def test_answers_come_back_as_they_were(tmp_path, tool, kind, seed):
    request = made.request(seed, kind)
    form = made.fill_in(copy.deepcopy(request), seed, kind)
    back, notes = there_and_back(tool, form, request, tmp_path)
    reasons = tool == "cvat"  # Label Studio only says that a task was skipped
    assert made.plain(back, reasons) == made.plain(form, reasons)
    assert notes.problems == []
    said = made.plain(form)
    frames = [what for _, frames in said.values() for what in frames.values()]
    assert [] in frames and "blurred" in frames if seed == 0 else frames


@pytest.mark.parametrize("tool", TOOLS)
def test_a_video_with_none_of_the_classes_comes_back(tmp_path, tool):
    request = made.request(3)
    form = copy.deepcopy(request)
    form["videos"][1]["class"] = NONE
    for frame in form["videos"][1]["frames"]:
        frame["actors"] = []
    back, notes = there_and_back(tool, form, request, tmp_path)
    assert made.plain(back) == made.plain(form) and not notes.problems


@pytest.mark.parametrize("tool", TOOLS)
def test_pictures_and_proposals_go_along_and_are_no_labels(tmp_path, tool):
    request = made.request(5)
    video, frame = "cam2/jump_b", request["videos"][0]["frames"][0]["frame"]
    picture = tmp_path / "frames" / video / f"frame_{frame:05d}.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (80, 60), "red").save(picture)
    proposed = {video: {str(frame): [{"box": [1, 2, 30, 40], "class": "jump", "score": 0.7}]}}
    paths = TOOLS[tool].write_tasks(request, tmp_path, picture.parents[2], SIZES, proposed)
    text = paths[0].read_text()
    assert ("data:image/jpeg;base64," in text) == (tool == "label_studio")
    assert '"predictions"' in text or 'source="auto"' in text
    back, notes = read_answers(paths[:1], request, made.pool())
    assert all(frames == {} for _, frames in made.plain(back).values())
    if tool == "cvat":
        assert "1 proposals were left as they are" in str(notes.warnings)
        paths[0].write_text(text.replace("</box>", '</box><tag label="accepted"></tag>'))
        back, _ = read_answers(paths[:1], request, made.pool())
        actor = back["videos"][0]["frames"][0]["actors"][0]
        assert actor == {"track": 1, "box": [1, 2, 29, 38], "origin": "accepted"}


def test_a_cvat_zip_is_read_without_unpacking_it(tmp_path):
    request = made.request(1)
    form = made.fill_in(copy.deepcopy(request), 1)
    path = cvat.write_tasks(form, tmp_path, tmp_path, SIZES)[0]
    with zipfile.ZipFile(tmp_path / "job.zip", "w") as archive:
        archive.write(path, "../../annotations.xml")
        archive.writestr("images/x.png", b"picture")
    path.unlink()
    back, _ = read_answers([tmp_path / "job.zip"], request, made.pool())
    assert made.plain(back) == made.plain(form)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".xml"] == []


def test_the_real_label_studio_export_is_read(shared_golden):
    tasks = json.loads((shared_golden / "label_studio" / "tasks.json").read_text())
    from claus.annotators.form import request_form
    from claus.datasets.labels.annotations import Annotations, Video

    video = Video("cam2/jump_b", 50, 480, 640)
    pool = Annotations("own", ("run", "jump"), {video.name: video})
    frames = [task["data"]["frame"] for task in tasks]
    request = request_form(pool, [{"video": video.name, "frames": frames}], "mine", 0)
    path = shared_golden / "label_studio" / "export.json"
    form, notes = read_answers([path], request, pool)
    five, twenty_nine, thirty_nine = form["videos"][0]["frames"]
    # the box as it was moved: 257.68 to 407.68; the number result keeps the old one
    assert five["actors"] == [{"track": 1, "box": [258, 70, 150, 260], "origin": "moved"}]
    assert (five["seconds"], form["videos"][0]["class"]) == (6.2, "jump")
    assert twenty_nine["actors"] is None and twenty_nine["skipped"]
    assert thirty_nine["actors"] == [] and (notes.problems, notes.rounded) == ([], 1)


# ------------------------------------------------------------------------ Label Studio's own


@pytest.mark.parametrize("seed", range(5))
def test_brush_masks_are_packed_and_unpacked(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(rng.integers(1, 40)) for _ in range(2))
    mask = rng.random((height, width)) < rng.random()
    packed = label_studio.pack_rle(mask)
    assert (label_studio.unpack_rle(packed, height, width) == mask).all()
    full = np.ones((300, 400), bool)  # runs longer than 65,536 values
    assert label_studio.unpack_rle(label_studio.pack_rle(full), 300, 400).all()


def test_brush_masks_with_single_values_are_unpacked():
    """Two pixels, 255 and 0, as eight values one after another, in a block of its own."""
    bits = f"{8:032b}{7:05b}" + "0010" * 4 + "0" + "00" + f"{7:03b}"
    bits += "".join(f"{value:08b}" for value in [255] * 4 + [0] * 4)
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    assert label_studio.unpack_rle(code, 1, 2).tolist() == [[True, False]]


@pytest.mark.parametrize(
    "code",
    [[], [0] * 8, [255] * 40, "x", [1, 2.5], label_studio.pack_rle(np.ones((4, 4), bool))[:8]],
)
def test_damaged_brush_masks_are_an_error_that_is_told(code):
    with pytest.raises(ValueError):
        label_studio.unpack_rle(code, 4, 4)


def test_a_rotated_box_is_the_box_around_it_and_tracks_are_found(tmp_path):
    request = made.request(0)
    entry = request["videos"][0]
    numbers = [frame["frame"] for frame in entry["frames"]]

    def region(x, rotation=0):
        value = {"x": x, "y": 20, "width": 25, "height": 25, "rotation": rotation}
        value["rectanglelabels"] = ["jump"]
        return {"id": str(x), "type": "rectanglelabels", "original_width": 80,
                "original_height": 60, "value": value}  # fmt: skip

    regions = [[region(70, 90)], [region(2), region(48)], [region(50), region(4)], []]
    tasks = [
        {"data": {"video": entry["video"], "frame": str(number)},
         "annotations": [{"result": result, "completed_by": 4}]}
        for number, result in zip(numbers, regions, strict=True)
    ]  # fmt: skip
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    form, notes = read_answers([path], request, made.pool())
    frames = form["videos"][0]["frames"]
    # a quarter turn to the right about the corner at 56, 12: 15 to the left, 20 down
    assert frames[0]["actors"][0]["box"] == [41, 12, 15, 20]
    assert [[a["track"] for a in f["actors"]] for f in frames[1:3]] == [[2, 1], [1, 2]]
    assert "a rotated box" in str(notes.warnings)
    assert frames[3]["actors"] is None
    assert "nothing is marked and 'no action here' is not chosen" in str(notes.problems)


def test_several_annotations_of_a_task_are_several_people(tmp_path):
    request = made.request(0)
    form = made.fill_in(copy.deepcopy(request), 0)
    path = label_studio.write_tasks(form, tmp_path, tmp_path, SIZES)[0]
    tasks = json.loads(path.read_text())
    twice = next(t for t in tasks if any(r["type"] == "rectanglelabels" for a in t.get("annotations", []) for r in a["result"]))  # fmt: skip
    other = copy.deepcopy(twice["annotations"][0]) | {"completed_by": 2}
    other["result"][0]["value"]["x"] -= 5
    twice["annotations"].append(other)
    path.write_text(json.dumps(tasks))
    back, notes = read_answers([path], request, made.pool())
    place = twice["data"]["video"], twice["data"]["frame"]
    frames = dict(made.plain(back)[place[0]][1])
    assert place[1] not in frames and "people disagree" in str(notes.problems)
    third = copy.deepcopy(other) | {"completed_by": 3}
    twice["annotations"].append(third)
    path.write_text(json.dumps(tasks))
    back, notes = read_answers([path], request, made.pool())
    moved = made.plain(back)[place[0]][1][place[1]][0]["box"]
    assert moved[0] == made.plain(form)[place[0]][1][place[1]][0]["box"][0] - 4


# ------------------------------------------------------------------------------------ names


def test_names_of_pictures_are_unique_and_found_again():
    frames = [(name, number) for name in (*made.NAMES, "x" * 300 + "/y") for number in (0, 7)]
    names = picture_names(frames)
    assert names["cam2/jump_b", 7] == "cam2__jump_b__frame_00007.png"
    assert len({name.casefold() for name in names.values()}) == len(frames)
    assert all("/" not in name and len(name.encode()) < 256 for name in names.values())
    pictures = Pictures(frames)
    for key, name in names.items():
        for form in (name, f"some/folder/{name}", f"0a1b2c3d-{name}", name[:-4] + ".jpg"):
            assert pictures.find(form) == key
    assert pictures.find("upload/cam2/jump_b/frame_00007.png") == ("cam2/jump_b", 7)
    assert pictures.find("frame_00007.png") is None


def test_pictures_of_other_tools_lead_to_videos():
    names = VideoNames({"cam2/jump_b": 50, "cam1/jump": 50, "cam3/jump": 50, "v_g01_c02": 9})
    for given in ("jump_b_0012.jpg", "cam2/jump_b/frame_000012.png", "cam2__jump_b__frame_00012",
                  "cam2_jump_b-12.png"):  # fmt: skip
        assert names.find_picture(given) == ("cam2/jump_b", 12)
    assert names.find_picture("v_g01_c02_0003.png") == ("v_g01_c02", 3)
    assert names.find_picture("frame_000012.PNG", "jump_b.mp4") == ("cam2/jump_b", 12)
    assert names.find_picture("jump_0012.jpg") is None, "two videos have this name"
    assert names.find("videos/cam3/jump.mp4") == "cam3/jump"


# --------------------------------------------------------------------- an independent reader

READ = """
import json, sys
from datumaro.components.dataset import Dataset
found = {}
for item in Dataset.import_from(sys.argv[1], "cvat"):
    shapes = []
    for one in item.annotations:
        box = [one.x, one.y, one.w, one.h] if one.type.name == "bbox" else None
        mask = one.image.astype(int).tolist() if one.type.name == "mask" else None
        shapes.append([one.type.name, box, mask, one.attributes.get("track")])
    found[item.id] = shapes
print(json.dumps(found))
"""


def datumaro():
    """The Python that has datumaro: this one, or that of CLAUS_DATUMARO; or None."""
    if importlib.util.find_spec("datumaro"):
        return sys.executable
    return os.environ.get("CLAUS_DATUMARO")


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_datumaro_reads_the_same_from_our_cvat_file(tmp_path, kind):
    python = datumaro()
    if python is None:
        pytest.skip("needs datumaro: pip install '.[exchange-test]', or CLAUS_DATUMARO=python")
    request = made.request(2, kind)
    form = made.fill_in(copy.deepcopy(request), 2, kind)
    cvat.write_tasks(form, tmp_path, tmp_path, SIZES)
    (tmp_path / "labels.json").unlink()
    (tmp_path / "images").mkdir()
    for name in picture_names(label_studio.frames_of(request)).values():
        Image.new("RGB", (80, 60)).save(tmp_path / "images" / name)
    told = subprocess.run(
        [python, "-c", READ, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr[-2000:]
    found = json.loads(told.stdout.splitlines()[-1])
    names = picture_names(label_studio.frames_of(request))
    for entry in form["videos"]:
        for frame in entry["frames"]:
            shapes = found[names[entry["video"], frame["frame"]][:-4]]
            got = [shape for shape in shapes if shape[0] != "label"]
            wanted = frame["actors"] or []
            assert len(got) == len(wanted)
            for actor, (_, box, mask, track) in zip(wanted, got, strict=True):
                assert int(track) == actor["track"]
                if kind == "boxes":
                    assert box == actor["box"]
                else:
                    assert encode_rle(np.array(mask, bool)) == actor["mask"]
