"""J-HMDB through every script, on a tiny set in its layout; and both protocols of the
evaluation, with its pictures.
"""

import json
import shutil

import av
import numpy as np
import pytest
import torch
from jhmdb_maker import square_masks, write_pngs, write_set
from made_videos import whole
from PIL import Image

import claus_select
import cluster_extract
import evaluate
import run_cycles
import train_jhmdb
import train_ucf101
from claus.annotators.form import read_form, write_form
from claus.artifacts import checkpoint
from claus.artifacts.cycle_row import ACT_COLUMNS
from claus.artifacts.scores import load_features, load_uncertainty
from claus.datasets import jhmdb
from claus.datasets.clips.geometry import GEOMETRY, center_crop, transform
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.labels import annotations
from claus.datasets.labels.masks import encode_rle
from claus.datasets.sprites import write_video
from claus.datasets.truth import truth_masks, truth_of
from claus.flags.selection import parse
from claus.metrics import capsule
from claus.metrics import linking as act_links
from claus.metrics import masks as act_masks
from claus.metrics.act import frame_ap, video_ap
from claus.metrics.boxes import Boxes
from claus.steps import evaluate as evaluate_step
from claus.steps.select import read_truth
from claus.utils import overlays as visualize
from claus.utils.runtime import UserError

TRAIN = [
    "--model",
    "small",
    "--pretrained",
    "none",
    "--device",
    "cpu",
    "--epochs",
    "1",
    "--steps",
    "3",
    "--bn-batches",
    "1",
    "--batch-size",
    "4",
]
FRAMES = 18


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight training and four test clips of two classes: .avi, but for one that is a folder
    of PNGs.
    """
    root = tmp_path_factory.mktemp("data") / "tiny"
    rng = np.random.default_rng(5)
    clips = {}
    for number in range(12):
        name = f"{('catch', 'wave')[number % 2]}/clip_{number}"
        masks = square_masks(
            FRAMES, 36, 48, (int(rng.integers(0, 8)), int(rng.integers(2, 16))), 14
        )
        clips[name] = masks, "train" if number < 8 else "test"
        frames = np.where(masks[..., None], 200, rng.integers(0, 90, (36, 48, 3))).astype(
            np.uint8
        )
        path = root / "videos" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number == 3:
            write_pngs(path.with_suffix(""), frames)
        else:
            write_video(path, frames)
    write_set(root, clips)
    return root


def common(folder, data, cycle=0):
    return ["--run", str(folder), "--cycle", str(cycle), "--data", str(data)]


def select(folder, data, cycle=0, *more):
    return claus_select.main(
        [
            *common(folder, data, cycle),
            "--dataset",
            "jhmdb",
            "--videos-count",
            "4",
            "--frames-count",
            "8",
            *more,
        ]
    )


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run with cycle 0 selected, trained, extracted and evaluated with pictures, and
    cycle 1 selected.
    """
    folder = tmp_path_factory.mktemp("runs") / "run"
    select(folder, data, 0, "--oracle", str(data))
    train_jhmdb.main([*common(folder, data), *TRAIN])
    scored_well(folder)
    cluster_extract.main(
        [*common(folder, data), "--dataset", "jhmdb", "--device", "cpu", "--passes", "2"]
    )
    evaluate.main(
        [
            *common(folder, data),
            "--dataset",
            "jhmdb",
            "--oracle",
            str(data),
            "--device",
            "cpu",
            "--visualize",
            "1",
        ]
    )
    select(folder, data, 1, "--oracle", str(data))
    return folder


def scored_well(folder):
    """Raise the last bias of the detector, so that its maps have foreground after three
    steps of training.
    """
    path = folder / "cycle0" / "detector.pt"
    state = torch.load(path, weights_only=True)
    bias = next(
        name
        for name in state["detector"]
        if name.startswith("smooth") and name.endswith("bias")
    )
    state["detector"][bias] += 0.02 - state["detector"][bias]
    torch.save(state, path)


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run / "cycle0" / "evaluation.json").read_text())


# ------------------------------------------------------------------------------ the scripts


def test_masks_are_asked_for_answered_and_stored(run):
    request = json.loads((run / "cycle0" / "request.json").read_text())
    assert request["answer_with"] == "masks"
    labels = annotations.load(run / "cycle1" / "annotations.pkl")
    assert (
        labels.dataset == "jhmdb-21" and len(labels.videos) == 8
    )  # the training part of split 1
    assert (labels.counts()["videos"], labels.counts()["frames"]) == (8, 16)
    for video in labels.labeled():
        (tube,) = video.tubes
        assert tube.boxes is None and tube.masks.shape == (len(video.labeled_frames), 36, 48)
        assert (np.asarray(tube.masks).sum((1, 2)) == 14 * 14).all()


def test_the_detector_knows_its_data_set_and_crop(run):
    trained = checkpoint.load(run / "cycle0" / "detector.pt")
    assert trained.dataset == "jhmdb-21" and trained.classes == jhmdb.CLASSES
    assert trained.geometry == GEOMETRY["small", "jhmdb"]
    assert trained.about["arguments"]["mask_interp"] == "blend"
    assert load_features(run / "cycle0" / "features.pkl").videos == list(
        annotations.load(run / "cycle0" / "annotations.pkl").videos
    )


def test_default_budgets_are_those_of_the_data_set():
    start = ["--run", "r", "--cycle", "0"]
    asked = parse([*start, "--dataset", "jhmdb"])
    assert (asked.budget.videos, asked.budget.frames) == ("5%", "3%")
    assert asked.source.data == "data/JHMDB"
    asked = parse([*start, "--frames", "2%"])
    assert (asked.budget.videos, asked.budget.frames) == ("5%", "2%")
    assert asked.source.data == "data/UCF101"


def test_answers_of_people_hold_masks(data, tmp_path):
    (tmp_path / "list.txt").write_text((data / "testlist_split1.txt").read_text())
    flags = ["--classes", "catch,wave", "--test-list", str(tmp_path / "list.txt")]
    select(tmp_path / "mine", data, 0, *flags)
    path = tmp_path / "mine" / "cycle0" / "request.json"
    truth = jhmdb.read_ground_truth(data, part="train")
    form = read_form(path)
    assert form["answer_with"] == "masks" and {v["video"] for v in form["videos"]} <= set(
        truth.videos
    )
    for entry in form["videos"]:
        tube = truth.videos[entry["video"]].tubes[0]
        entry["class"] = entry["video"].partition("/")[0]
        for frame in entry["frames"]:
            frame["actors"] = [{"track": 1, "mask": encode_rle(tube.masks[frame["frame"]])}]
    write_form(tmp_path / "answers.json", form)
    select(tmp_path / "mine", data, 0, "--answers", str(tmp_path / "answers.json"))
    labels = annotations.load(tmp_path / "mine" / "cycle0" / "annotations.pkl")
    video = labels.labeled()[0]
    np.testing.assert_array_equal(
        video.tubes[0].masks[0],
        truth.videos[video.name].tubes[0].masks[int(video.labeled_frames[0])],
    )


def test_another_data_set_is_one_clear_line(run, data, tmp_path):
    wrong = "of jhmdb-21, not of ucf101-24; give --dataset jhmdb"
    with pytest.raises(UserError, match=f"annotations.pkl is {wrong}"):
        train_ucf101.main([*common(run, data), *TRAIN, "--force"])
    with pytest.raises(UserError, match=f"detector.pt is {wrong}"):
        cluster_extract.main([*common(run, data), "--device", "cpu", "--force"])
    with pytest.raises(UserError, match=f"detector.pt is {wrong}"):
        evaluate.main(
            [
                *common(run, data),
                "--oracle",
                str(data),
                "--test-list",
                "x",
                "--device",
                "cpu",
                "--force",
            ]
        )
    shutil.copytree(run / "cycle0", tmp_path / "run" / "cycle0")
    with pytest.raises(UserError, match=f"annotations.pkl is {wrong}"):
        claus_select.main(common(tmp_path / "run", data, 1))
    with pytest.raises(UserError, match="tiny is a folder.*--dataset jhmdb for"):
        claus_select.main([*common(tmp_path / "run", data, 1), "--oracle", str(data)])


@pytest.mark.parametrize(
    ("script", "flags", "says"),
    [
        (evaluate, ["--oracle", "x"], "needs --test-list"),
        (evaluate, ["--oracle", "x", "--test-list", "x", "--split", "2"], "--split is for"),
        (
            evaluate,
            ["--oracle", "x", "--dataset", "jhmdb", "--crop", "wide"],
            "--crop wide is not for --dataset jhmdb",
        ),
        (
            evaluate,
            ["--oracle", "x", "--dataset", "jhmdb", "--split", "1", "--test-list", "x"],
            "not both",
        ),
        (
            evaluate,
            ["--oracle", "x", "--dataset", "jhmdb", "--act-threshold", "0"],
            "--act-threshold",
        ),
        (train_jhmdb, ["--crop", "wide"], "argument --crop: invalid choice: 'wide'"),
        (train_ucf101, ["--mask-interp", "flow"], "unrecognized arguments: --mask-interp"),
    ],
)
def test_flags_that_do_not_belong_to_the_data_set_are_refused(script, flags, says, capsys):
    with pytest.raises(SystemExit):
        script.main(["--run", "r", *flags])
    assert says in capsys.readouterr().err


def test_training_takes_each_interpolation(run, data, tmp_path):
    for method in ("hold", "flow"):
        folder = tmp_path / method
        (folder / "cycle0").mkdir(parents=True)
        shutil.copy(run / "cycle0" / "annotations.pkl", folder / "cycle0")
        train_jhmdb.main(
            [*common(folder, data), *TRAIN, "--steps", "1", "--mask-interp", method]
        )
        assert (
            checkpoint.load(folder / "cycle0" / "detector.pt").about["arguments"]["mask_interp"]
            == method
        )


def test_cycles_run_on_masks_and_keep_the_protocols_apart(data, tmp_path, capsys):
    folder = tmp_path / "run"
    assert (
        run_cycles.main(
            [
                "--run",
                str(folder),
                "--dataset",
                "jhmdb",
                "--oracle",
                str(data),
                "--data",
                str(data),
                "--device",
                "cpu",
                "--cycles",
                "1",
                "--train",
                " ".join([*TRAIN, "--steps", "1"]),
                "--select",
                "--videos-count 2 --frames-count 2",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "\nact protocol (boxes" in said and "\ncapsule protocol (class-agnostic" in said
    head, row = (line.split(",") for line in (folder / "results.csv").read_text().splitlines())
    assert head[-3:] == list(ACT_COLUMNS) and len(row) == len(head)
    with pytest.raises(UserError, match="--protocol act"):
        run_cycles.main(
            [
                "--run",
                str(tmp_path / "no"),
                "--dataset",
                "jhmdb",
                "--oracle",
                str(data),
                "--evaluate",
                "--protocol act",
                "--device",
                "cpu",
            ]
        )


# --------------------------------------------------------------------------- both protocols


def test_act_results_are_those_of_a_direct_call(run, data, report):
    trained = checkpoint.load(run / "cycle0" / "detector.pt")
    videos = list(jhmdb.read_ground_truth(data, part="test").videos.values())
    tiles = VideoTiles(
        videos,
        lambda name: jhmdb.find_video(data, name),
        trained.geometry,
        phases=2,
        fill="black",
    )
    parts = []
    for i, video in enumerate(videos):
        item = whole(tiles.chunks(i))
        for clip, frames in zip(item["clips"], item["frames"], strict=True):
            with torch.no_grad():
                detection = trained.detector(clip[None].transpose(1, 2).float() / 127.5 - 1)
            parts.append(
                act_masks.scored_boxes(
                    i,
                    frames,
                    detection.logits[0, 0].sigmoid().numpy(),
                    detection.scores[0].numpy(),
                    trained.geometry,
                    video.height,
                    video.width,
                )
            )
    found, (boxes, tubes) = Boxes.concat(parts, scored=True), act_masks.truth(videos)
    assert len(found), "the network finds something, or the test says nothing"
    frame, video = (
        frame_ap(boxes, found, jhmdb.CLASSES),
        video_ap(tubes, act_links.link(found), jhmdb.CLASSES),
    )
    for mine, theirs in (
        (frame.to_dict(), report["act"]["frame"]),
        (video.to_dict(), report["act"]["video"]),
    ):
        assert (mine["truths"], mine["detections"]) == (theirs["truths"], theirs["detections"])
        assert mine["detections"] > 0
        np.testing.assert_allclose(
            np.array(theirs["mean_ap"], float), np.array(mine["mean_ap"], float), atol=1e-6
        )
    assert report["act"]["video"]["switches"]["made_by"]["link"]["rule"] == "gaps"
    assert report["act"]["frame"]["switches"]["made_by"]["crop"] == "64x64 of 73x73"


def test_capsule_truth_is_the_puppet_mask_inside_the_crop(data, report):
    video = next(iter(jhmdb.read_ground_truth(data, part="test").videos.values()))
    geometry = GEOMETRY["small", "jhmdb"]
    truth = truth_of(video, geometry, "union")
    whole = transform(
        np.asarray(video.tubes[0].masks).astype(np.uint8), geometry, (4, 4)
    ).numpy()
    np.testing.assert_array_equal(truth_masks(truth), whole > 0)
    assert report["capsule"]["videos"] == 4 and report["capsule"]["frames"] == 4 * FRAMES
    assert report["floor"]["switches"] == report["capsule"]["switches"]


def test_one_protocol_alone_and_its_switches(run, data, tmp_path, capsys):
    def run_one(*flags):
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "cycle0").mkdir(parents=True)
        shutil.copy(run / "cycle0" / "detector.pt", folder / "cycle0")
        evaluate.main(
            [
                *common(folder, data),
                "--dataset",
                "jhmdb",
                "--oracle",
                str(data),
                "--device",
                "cpu",
                "--limit",
                "2",
                *flags,
            ]
        )
        return json.loads(
            (folder / "cycle0" / "evaluation.json").read_text()
        ), capsys.readouterr().out

    result, said = run_one("--protocol", "capsule", "--no-floor")
    assert (
        result["act"] is None
        and result["capsule"]["videos"] == 2
        and "protocol: act" not in said
    )
    result, said = run_one(
        "--protocol",
        "act",
        "--link",
        "tubelet",
        "--envelope",
        "--no-plus-one",
        "--strict-iou",
        "--class-scores",
        "video",
        "--nms",
        "1",
        "--min-area",
        "0.01",
        "--act-threshold",
        "0.4",
    )
    assert result["capsule"] is None and "protocol: capsule" not in said
    switches = result["act"]["video"]["switches"]
    assert (
        switches["envelope"]
        and switches["strict"]
        and not switches["plus_one"]
        and switches["nms"] is None
    )
    made = switches["made_by"]
    assert (made["threshold"], made["min_area"], made["class_scores"]) == (0.4, 0.01, "video")
    assert made["link"]["rule"] == "tubelet" and made["link"]["keep"] == 10
    assert "made_by.class_scores=video" in said


# --------------------------------------------------------------------------------- pictures


def test_pictures_can_be_opened_and_cover_every_frame(run):
    folder = run / "cycle0" / "pictures"
    sheets = sorted(path.name for path in folder.glob("*_clip_*.png"))
    assert [name.partition("_")[0] for name in sheets] == ["best1", "median1", "worst1"]
    for name in [*sheets, "confusion.png", "classes_capsule.png", "classes_act.png"]:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 100
    for name in sheets:
        with av.open(str((folder / name).with_suffix(".mp4"))) as container:
            assert sum(1 for _ in container.decode(video=0)) == FRAMES
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = EventAccumulator(str(run / "cycle0" / "tensorboard")).Reload().Tags()["images"]
    assert {
        "evaluation/confusion",
        "evaluation/classes_capsule",
        "evaluation/classes_act",
    } <= set(tags)


def test_pictures_are_drawn_of_a_cycle_that_was_evaluated_without(run, data, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(folder / "cycle0" / "pictures")
    flags = [
        *common(folder, data),
        "--dataset",
        "jhmdb",
        "--oracle",
        str(data),
        "--device",
        "cpu",
    ]
    before = (folder / "cycle0" / "evaluation.json").read_bytes()
    assert evaluate.main(flags) == 0 and "is there already" in capsys.readouterr().out
    assert (
        evaluate.main([*flags, "--visualize", "1", "--limit", "2", "--protocol", "capsule"])
        == 0
    )
    assert len(list((folder / "cycle0" / "pictures").iterdir())) > 3
    assert (
        folder / "cycle0" / "evaluation.json"
    ).read_bytes() == before  # not by the scores of two videos
    capsys.readouterr()
    assert (
        evaluate.main([*flags, "--visualize", "1"]) == 0
        and "is there already" in capsys.readouterr().out
    )


def test_scores_are_written_before_pictures_are_drawn(run, data, tmp_path, monkeypatch, capsys):
    """What fails in drawing takes no score away, and the same command draws what is left."""
    folder = shutil.copytree(run, tmp_path / "copy")
    place = folder / "cycle0"
    flags = [*common(folder, data), "--dataset", "jhmdb", "--oracle", str(data)]
    flags += ["--device", "cpu", "--visualize", "0"]
    real = visualize.write_png

    def broken(path, picture):
        raise ValueError("a picture that cannot be drawn")

    monkeypatch.setattr(visualize, "write_png", broken)
    before = json.loads((place / "evaluation.json").read_text())["act"]
    (place / "evaluation.json").unlink()
    with pytest.raises(ValueError, match="cannot be drawn"):
        evaluate.main(flags)
    assert json.loads((place / "evaluation.json").read_text())["act"] == before
    monkeypatch.setattr(visualize, "write_png", real)
    assert evaluate.main(flags) == 0
    assert (place / "pictures" / "confusion.png").exists()
    assert "stays as it was" in capsys.readouterr().out
    assert evaluate.main(flags) == 0 and "is there already" in capsys.readouterr().out


def test_best_median_and_worst_are_chosen_once_each():
    iou = [0.1, 0.9, np.nan, 0.5, 0.6, 0.7, 0.2]
    assert visualize.pick_examples(iou, 1) == [("best1", 1), ("median1", 4), ("worst1", 0)]
    assert visualize.pick_examples(iou, 2) == [
        ("best1", 1),
        ("best2", 5),
        ("median1", 4),
        ("median2", 3),
        ("worst1", 0),
        ("worst2", 6),
    ]
    assert visualize.pick_examples([0.3, np.nan], 2) == [("best1", 0)]
    assert visualize.pick_examples([0.3, 0.1], 0) == visualize.pick_examples([], 3) == []


def test_overlay_draws_truth_prediction_and_what_is_not_seen_where_they_are():
    geometry = GEOMETRY["small", "jhmdb"]
    frame, truth, prob = (
        np.full((73, 73, 3), 100, np.uint8),
        np.zeros((73, 73), bool),
        np.zeros((64, 64)),
    )
    truth[10:30, 10:30] = True
    prob[40:60, 40:60] = 0.9  # in the frame 4 further right and down
    top, left = center_crop(geometry)
    crop = left, top, left + geometry.crop[1], top + geometry.crop[0]
    view = visualize.overlay(frame, truth, prob, geometry.frame, crop, 146)
    assert view.shape == (146, 146, 3)
    assert view[2, 2].tolist() == [45] * 3 and view[75, 20].tolist() == [100] * 3
    assert view[108, 108].tolist() == [int(0.6 * 100 + 0.4 * c) for c in visualize.PREDICTION]
    green = np.argwhere((view[..., 1] > 200) & (view[..., 0] < 120))
    assert abs(green.min() - 20) <= 2 and abs(green.max() - 59) <= 2


def test_strip_is_as_high_as_the_iou_and_marks_the_frame():
    strip = visualize.iou_strip(np.array([1.0, 0.25, np.nan, 0.0]), 80, 40, at=3)
    filled = (strip != 48).any(axis=2).sum(axis=0)
    assert filled[5] == 40 and abs(filled[25] - 10) <= 1
    assert (strip[5, 45] == 90).all() and (strip[:, 69] == 255).all()
    one = visualize.iou_strip(np.full(900, 0.5), 80, 40, at=899)
    assert (one[:, 79] == 255).all()


# ---------------------------------------------------------------------------- the real data

# its container claims 48 frames, 40 decode
REAL_CLIP = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"


@pytest.fixture(scope="module")
def one_real_clip(shared_data, tmp_path_factory):
    """A data folder with the official masks and lists, and the video of REAL_CLIP alone."""
    root = tmp_path_factory.mktemp("jhmdb")
    real = shared_data / "jhmdb"
    for name in ("puppet_mask", "trainlist_split1.txt", "testlist_split1.txt"):
        (root / name).symlink_to(real / name)
    video = root / "videos" / f"{REAL_CLIP}.avi"
    video.parent.mkdir(parents=True)
    video.symlink_to(jhmdb.find_video(real, REAL_CLIP))
    return root


def test_the_paper_s_budget_on_the_real_masks(shared_data, tmp_path):
    flags = [
        "--run",
        str(tmp_path / "run"),
        "--cycle",
        "0",
        "--dataset",
        "jhmdb",
        "--oracle",
        str(shared_data / "jhmdb"),
    ]
    claus_select.main(flags)
    labels = annotations.load(tmp_path / "run" / "cycle0" / "annotations.pkl")
    assert len(labels.videos) == 660 and (
        labels.counts()["videos"],
        labels.counts()["frames"],
    ) == (33, 34)


def test_a_real_clip_goes_through_every_script(one_real_clip, tmp_path):
    run = tmp_path / "one"
    flags = [*common(run, one_real_clip), "--dataset", "jhmdb"]
    claus_select.main(
        [
            *flags,
            "--oracle",
            str(one_real_clip),
            "--on-disk",
            "--videos-count",
            "1",
            "--frames-count",
            "3",
        ]
    )
    train_jhmdb.main([*common(run, one_real_clip), *TRAIN, "--steps", "1"])
    cluster_extract.main([*flags, "--device", "cpu", "--passes", "2"])
    scored = load_uncertainty(run / "cycle0" / "uncertainty.pkl")
    assert (scored.videos, scored.offsets.tolist()) == ([REAL_CLIP], [0, 40])


def test_a_prediction_that_equals_the_real_masks_overlaps_wholly(one_real_clip):
    geometry = GEOMETRY["small", "jhmdb"]
    video = jhmdb.read_ground_truth(one_real_clip).videos[REAL_CLIP]
    tiles = VideoTiles(
        [video], lambda name: jhmdb.find_video(one_real_clip, name), geometry, 2, "black"
    )
    item = whole(tiles.chunks(0))
    assert sorted(item["frames"][item["frames"] >= 0].tolist()) == list(range(40))
    truth = truth_of(video, geometry, "union")
    masks = torch.from_numpy(truth_masks(truth)[item["frames"]])
    prediction = evaluate_step.Prediction(
        item["frames"],
        torch.where(masks, 9.0, -9.0),
        np.eye(21)[[1] * len(item["frames"])],
    )
    overlap = capsule.VideoOverlap.empty(video.name, video.label, video.frames, 21)
    view = evaluate_step.View(geometry, geometry)
    evaluate_step.add_overlap(overlap, item, prediction, truth, view, video)
    assert (overlap.intersection_F == overlap.union_F).all()
    assert overlap.predicted_class(capsule.Switches()) == 1


def test_no_test_clip_of_the_real_set_is_in_the_pool(shared_data):
    asked = parse(
        [
            "--run",
            "r",
            "--cycle",
            "0",
            "--dataset",
            "jhmdb",
            "--oracle",
            str(shared_data / "jhmdb"),
        ]
    )
    pool = read_truth(asked.source).videos
    test = jhmdb.read_ground_truth(shared_data / "jhmdb", part="test").videos
    assert not set(pool) & set(test) and len(pool) + len(test) == 928


def test_a_detector_that_diverged_is_refused_by_name(run, data, tmp_path):
    folder = tmp_path / "run" / "cycle0"
    folder.mkdir(parents=True)
    state = torch.load(run / "cycle0" / "detector.pt", weights_only=True)
    state["detector"]["smooth.bias"] += float("nan")
    torch.save(state, folder / "detector.pt")
    with pytest.raises(
        UserError,
        match="detector.pt: .* holds a number that is not finite; the training that made it diverged",
    ):
        evaluate.main(
            [
                *common(tmp_path / "run", data),
                "--dataset",
                "jhmdb",
                "--oracle",
                str(data),
                "--device",
                "cpu",
            ]
        )
