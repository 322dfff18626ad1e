"""COCO, YOLO, MOT and Label Studio's videos, as other programs write them."""

import json

import numpy as np
import pytest

from claus.annotators import coco, label_studio, mot, yolo
from claus.annotators.found import Found
from claus.annotators.pictures import VideoNames
from claus.datasets.labels.masks import decode_rle, encode_rle
from claus.utils.runtime import UserError


def found(**more):
    return Found(VideoNames({"cam/jump": 50, "cam/run": 50}), **more)


def coco_file(path, annotations, **image):
    image = {"id": 7, "file_name": "cam/jump_00004.jpg", "height": 6, "width": 8} | image
    empty = {"id": 8, "file_name": "cam/jump_00005.jpg", "height": 6, "width": 8}
    content = {"images": [image, empty], "categories": [{"id": 3, "name": "hop"}]}
    annotations = [{"id": 1, "image_id": 7, "category_id": 3} | one for one in annotations]
    path.write_text(json.dumps(content | {"annotations": annotations}))
    return path


def test_coco_boxes_and_pictures_that_nobody_may_have_seen(tmp_path):
    labels = found()
    boxes = [{"bbox": [1.5, 2, 3, 4], "track_id": 5}, {"bbox": [0, 0, 2, 2], "iscrowd": 1}]
    coco.read_labels(coco_file(tmp_path / "a.json", boxes), labels, "boxes")
    actor = {"track": 5, "class": "hop", "box": [1.5, 2, 3, 4]}
    assert labels.actors == {("cam/jump", 4): [actor]}
    assert "1 pictures without annotation" in str(labels.warnings)
    assert "1 crowd annotations" in str(labels.warnings)


def test_coco_masks_of_polygons_and_run_lengths_plain_and_packed(tmp_path):
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:5] = True
    polygon = [[2, 1, 5, 1, 5, 4, 2, 4]]
    # the run lengths 13 3 3 3 3 3 20, packed by pycocotools
    packed = {"size": [6, 8], "counts": "=33000a0"}
    given = [{"segmentation": s} for s in (polygon, encode_rle(mask), packed)]
    labels = found()
    coco.read_labels(coco_file(tmp_path / "a.json", given), labels, "masks")
    assert not labels.problems
    for actor in labels.actors["cam/jump", 4]:
        assert (decode_rle(actor["mask"]) == mask).all()


@pytest.mark.parametrize(
    "annotation",
    [{"bbox": [1, 2, 3]}, {"bbox": None}, {"bbox": [1, 2, "x", 4]}, {}, {"bbox": [1, 2, 3, 4], "category_id": 9}],
)  # fmt: skip
def test_coco_annotations_that_cannot_be_read_are_told(tmp_path, annotation):
    labels = found()
    coco.read_labels(coco_file(tmp_path / "a.json", [annotation]), labels, "boxes")
    assert labels.actors == {} and labels.problems[0][1].startswith("frame 4")


@pytest.mark.parametrize("counts", ["", "=3", "ooooooooooooooooooooooooo", "~"])
def test_packed_run_lengths_that_are_damaged_are_told(tmp_path, counts):
    labels = found()
    segmentation = {"size": [6, 8], "counts": counts}
    path = coco_file(tmp_path / "a.json", [{"segmentation": segmentation}])
    coco.read_labels(path, labels, "masks")
    assert labels.actors == {} and labels.problems


@pytest.mark.parametrize(
    "name, text",
    [
        ("classes.txt", "hop\nskip\n"),
        ("data.yaml", "nc: 2\nnames: [hop, 'skip']\n"),
        ("data.yaml", "names:\n  0: hop\n  1: skip\ntrain: x\n"),
        ("data.yaml", "names:\n- hop\n- skip\n"),
    ],
)
def test_yolo_says_where_nothing_is(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "jump_0004.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (tmp_path / "labels" / "jump_0005.txt").write_text("")
    labels = found(numbered_from=1)
    yolo.read_labels(tmp_path, labels, "boxes")
    assert labels.actors["cam/jump", 4] == []
    assert labels.actors["cam/jump", 3][0]["shares"] == [0.375, 0.25, 0.25, 0.5]
    assert labels.classes == ["hop", "skip"]
    with pytest.raises(UserError, match="YOLO has no masks"):
        yolo.read_labels(tmp_path, labels, "masks")


def test_mot_counts_from_one(tmp_path):
    folder = tmp_path / "jump" / "gt"
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_text("hop\n")
    (folder / "gt.txt").write_text(
        "5,2,11,21,30,40,1,1,1\n6,2,1,1,3,4,0,1,1\n99,1,1,1,2,2,1,1,1\n"
    )
    labels = found()
    mot.read_labels(folder / "gt.txt", labels, "boxes")
    actor = {"track": 2, "box": [10, 20, 30, 40], "class": "hop"}
    assert labels.actors == {("cam/jump", 4): [actor]}
    assert "it has no frame 99" in str(labels.problems)
    (tmp_path / "x.txt").write_text("1,1,1,1,2,2\n")
    with pytest.raises(UserError, match="which video is this"):
        mot.read_labels(tmp_path / "x.txt", labels, "boxes")


@pytest.mark.parametrize("constant", [True, False])
def test_boxes_over_time_are_taken_where_the_rate_is_constant(tmp_path, constant):
    keys = [{"frame": 5, "x": 10, "y": 20, "width": 30, "height": 40, "enabled": True}]
    value = {"sequence": keys, "labels": ["hop"]}
    result = [{"type": "videorectangle", "value": value}]
    task = {"data": {"video": "/data/upload/1/0a1b2c3d-jump.mp4"}}
    path = tmp_path / "video.json"
    path.write_text(json.dumps([task | {"annotations": [{"result": result}]}]))
    labels = found()
    label_studio.read_labels(path, labels, "boxes", lambda name: constant)
    if constant:
        (actor,) = labels.actors["cam/jump", 4]
        assert actor == {"track": 1, "class": "hop", "shares": [0.1, 0.2, 0.3, 0.4]}
    else:
        assert labels.actors == {} and "constant rate" in str(labels.problems)
