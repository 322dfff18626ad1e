import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from claus.datasets import jhmdb
from claus.datasets.video.reader import probe, read_frames
from claus.experiments.silhouettes import inner_split, label_curve
from claus.experiments.silhouettes import looks as silhouette_looks
from claus.experiments.silhouettes import make as silhouettes
from claus.experiments.silhouettes.scenes import (
    LEVELS,
    Knobs,
    Thing,
    draw,
    make_camera,
    make_domains,
    matrix_of,
    moved_across,
    plan,
    put_thing,
    render_scene,
)
from claus.experiments.silhouettes.textures import Domain, Style, pattern
from claus.utils.runtime import UserError
from tests.jhmdb_maker import write_set

STILL = Knobs(
    domains=1,
    silhouettes=0,
    objects=0,
    camera_drift=0,
    camera_shake=0,
    zoom=0,
    scale=(1, 1),
    occluders=0,
    noise=(0, 0),
    flicker=0,
    visibility=(1, 1),
)


def walker(frames=9, height=240, width=320, left=90, step=4, top=60, tall=110, wide=40):
    """A body with one leg that swings: bool (F,H,W)."""
    masks = np.zeros((frames, height, width), np.uint8)
    for f in range(frames):
        x = left + step * f
        masks[f, top : top + tall // 2, x : x + wide] = 1
        swing = int(15 * np.sin(f))
        cv2.line(
            masks[f],
            (x + wide // 2, top + tall // 2),
            (x + wide // 2 + swing, top + tall),
            1,
            9,
        )
    return masks.astype(bool)


@pytest.fixture
def source(tmp_path):
    masks = {
        f"{label}/Film{k}_{label}_f_cm_np1_fr_med_{i}": (walker(7 + k, left=60 + 10 * k), part)
        for label in ("jump", "walk")
        for k, part in ((0, "train"), (1, "train"), (2, "test"))
        for i in (0, 1)
    }
    write_set(tmp_path / "source", masks)
    return tmp_path / "source"


def render(source, output, *flags):
    assert (
        silhouettes.main(
            ["--source", str(source), "--output", str(output), "--processes", "1", *flags]
        )
        == 0
    )
    return output


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "puppet_mask.mat"
    } | {
        path.parent.name: jhmdb.read_masks(path).tobytes()
        for path in folder.rglob("puppet_mask.mat")
    }


def test_the_jhmdb_loader_reads_what_is_rendered(source, tmp_path):
    output = render(source, tmp_path / "out", "--level", "hard")
    for part, count in (("train", 8), ("test", 4)):
        truth = jhmdb.read_ground_truth(output, part=part)
        assert len(truth.videos) == count
        for name, video in truth.videos.items():
            assert (video.height, video.width) == (96, 128)
            assert probe(jhmdb.find_video(output, name)) == (video.frames, 96, 128)
            assert video.tubes[0].masks[:].any((1, 2)).all()
            assert video.frames == jhmdb.read_ground_truth(source).videos[name].frames
    about = json.loads((output / "silhouettes.json").read_text())
    assert (
        about["knobs"] == json.loads(json.dumps(LEVELS["hard"].to_dict()))
        and len(about["clips"]) == 12
    )


def test_the_same_seed_gives_the_same_files_whatever_the_processes(source, tmp_path):
    one = files_of(render(source, tmp_path / "one"))
    two = files_of(render(source, tmp_path / "two", "--processes", "3"))
    other = files_of(render(source, tmp_path / "other", "--seed", "1"))
    assert one == two
    assert not any(one[name] == other[name] for name in one if name.endswith(".avi"))


def test_an_interrupted_run_is_finished_and_other_knobs_are_refused(source, tmp_path):
    output = render(source, tmp_path / "out", "--level", "plain")
    before = files_of(output)
    clips = sorted(path for path in output.rglob("*.avi"))
    kept = {path: path.stat().st_mtime_ns for path in clips[1:]}
    clips[0].unlink()
    render(source, output, "--level", "plain")
    assert files_of(output) == before
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    with pytest.raises(UserError, match="other knobs"):
        render(source, output, "--level", "plain", "--seed", "1")


def test_knobs_are_read_by_name():
    knobs = silhouettes.read_knobs("hard", ["domains=3", "visibility=0.2,0.4"])
    assert (knobs.domains, knobs.visibility) == (3, (0.2, 0.4))
    assert (
        replace(knobs, domains=LEVELS["hard"].domains, visibility=LEVELS["hard"].visibility)
        == LEVELS["hard"]
    )
    for wrong in ("domain=3", "visibility=1", "noise=a,b"):
        with pytest.raises(UserError, match=wrong):
            silhouettes.read_knobs("hard", [wrong])


def test_sources_are_what_names_say_before_the_class():
    assert (
        silhouettes.source_of("shoot_ball/My_shoot_ball_game_shoot_ball_f_nm_np1_ri_med_0")
        == "My"
    )
    assert (
        silhouettes.source_of("catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2")
        == "Goal_Keeping_Tips"
    )


def flat_domain():
    ground, thing = (
        Style("clouds", 10.0, (120.0, 0.5, 0.5), 20.0),
        Style("grid", 9.0, (0.0, 0.6, 0.5), 20.0),
    )
    return Domain((ground,) * 2, (thing,) * 3, 1.0, 0.5)


def test_without_camera_motion_the_mask_is_the_real_one_made_smaller():
    masks = walker()
    scene = plan(
        masks,
        [],
        STILL,
        flat_domain(),
        np.random.default_rng(0),
        np.random.default_rng(1),
        effort=0.0,
    )
    _, seen, whole = draw(masks, scene, STILL, np.random.default_rng(2))
    assert (seen == whole).all()
    # 240 x 320 at 0.4 gives 96 x 128; the actor is centered, so compare after moving by its
    # own shift
    scale, *shift = scene.camera[0]
    assert scale == pytest.approx(0.4)
    y, x = np.mgrid[:96, :128]
    for mask, found in zip(masks, whole, strict=True):
        rows = ((y + 0.5 - shift[1]) / scale).astype(int).clip(0, 239)
        columns = ((x + 0.5 - shift[0]) / scale).astype(int).clip(0, 319)
        expected = mask[rows, columns]
        assert (expected & found).sum() / (expected | found).sum() > 0.9


@pytest.mark.parametrize(
    "edges", ["left", "right", "top", "bottom", "left right", "left right top bottom"]
)
def test_an_edge_that_cuts_the_real_mask_stays_outside_the_picture(edges):
    masks = np.zeros((20, 240, 320), bool)
    rows, columns = [80, 160], [100, 200]
    if "left" in edges:
        columns[0] = 0
    if "right" in edges:
        columns[1] = 320
    if "top" in edges:
        rows[0] = 0
    if "bottom" in edges:
        rows[1] = 240
    masks[:, rows[0] : rows[1], columns[0] : columns[1]] = True
    for seed in range(20):
        domain = replace(flat_domain(), camera=1.7)
        camera = make_camera(np.random.default_rng(seed), LEVELS["hard"], domain, masks, 1.0)
        for scale, x, y in camera:
            # a row of slack: the soft edge of a mask is half a pixel wide
            assert "left" not in edges or x <= 1e-9
            assert "right" not in edges or scale * 320 + x >= 128 - 1e-9
            assert "top" not in edges or y <= 1e-9
            assert "bottom" not in edges or scale * 240 + y >= 96 - 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_an_actor_that_crosses_stays_whole_inside_its_frame(seed):
    masks = walker(20, step=0)
    moved = moved_across(np.random.default_rng(seed), replace(STILL, actor_speed=(6, 9)), masks)
    assert (moved.sum((1, 2)) == masks.sum((1, 2))).all()  # nothing left the frame
    assert not (
        moved[:, 0].any() or moved[:, -1].any() or moved[:, :, 0].any() or moved[:, :, -1].any()
    )
    for before, after in zip(masks, moved, strict=True):  # the same shape at another place
        cut = [m[np.ix_(m.any(1), m.any(0))] for m in (before, after)]
        assert cut[0].shape == cut[1].shape and (cut[0] == cut[1]).all()
    left = [np.flatnonzero(mask.any(0))[0] for mask in moved]
    assert np.ptp(left) > 30


def test_an_actor_cut_by_an_edge_does_not_move_across_it():
    masks = walker(12, step=0, top=130)  # its foot reaches the lower edge
    moved = moved_across(np.random.default_rng(0), replace(STILL, actor_speed=(6, 6)), masks)
    assert (masks.any(2) == moved.any(2)).all() and (masks.any(1) != moved.any(1)).any()
    edge = walker(12, step=0, left=0)
    moved = moved_across(np.random.default_rng(0), replace(STILL, actor_speed=(6, 6)), edge)
    assert (edge.any(1) == moved.any(1)).all()


def test_a_thing_moves_as_a_whole_and_only_shifts():
    alpha = walker(1)[0].astype(np.float32)[40:200, 40:200]
    path = np.stack([np.arange(4) * 10.0 + 100, np.full(4, 120.0), np.zeros(4)], axis=1)
    thing = Thing(np.full((160, 160, 3), 200, np.float32), alpha, path, 1)
    camera = np.array([0.5, 0, 0])
    covers = [
        put_thing(np.zeros((120, 160, 3), np.float32), thing, camera, f) for f in range(4)
    ]
    for f, cover in enumerate(covers):
        np.testing.assert_allclose(cover[:, 5 * f :], covers[0][:, : 160 - 5 * f], atol=1e-5)
        assert cover.sum() > 500


def test_what_things_in_front_hide_is_not_in_the_mask():
    masks = walker()
    scene = plan(
        masks,
        [],
        STILL,
        flat_domain(),
        np.random.default_rng(0),
        np.random.default_rng(1),
        effort=0.0,
    )
    path = np.concatenate([scene.center, np.zeros((len(masks), 1))], axis=1)
    thing = Thing(np.zeros((41, 41, 3), np.float32), np.ones((41, 41), np.float32), path, 1)
    _, seen, whole = draw(
        masks, replace(scene, things=(thing,)), STILL, np.random.default_rng(2)
    )
    hidden = (whole & ~seen).sum((1, 2))
    assert (hidden > 100).all() and not (seen & ~whole).any()
    _, behind, _ = draw(
        masks,
        replace(scene, things=(replace(thing, depth=-1),)),
        STILL,
        np.random.default_rng(2),
    )
    assert (behind == whole).all()


def test_an_invisible_actor_has_the_colors_of_the_ground_a_visible_one_does_not():
    masks, difference = walker(), {}
    for visibility in (0.0, 1.0):
        knobs = replace(STILL, visibility=(visibility, visibility))
        frames, seen, _ = render_scene(masks, [], knobs, [flat_domain()], np.ones(1), [0], [0])
        difference[visibility] = abs(frames[seen].mean(0) - frames[~seen].mean(0)).max()
    assert difference[0.0] < 12 < 30 < difference[1.0]


def test_every_frame_shows_the_actor_even_where_most_things_are_in_front():
    knobs = replace(LEVELS["hard"], occluders=1.0, silhouettes=4.0, camera_drift=6.0)
    domains, odds = make_domains(knobs, 0)
    masks, donors = walker(20, tall=50, wide=14), list(walker(4))
    for seed in range(6):
        _, seen, _ = render_scene(masks, donors, knobs, domains, odds, [0, seed], [1, seed])
        assert seen.sum((1, 2)).min() >= 24


def test_domains_have_a_long_tail():
    domains, odds = make_domains(replace(LEVELS["hard"], domains=10, rarity=1.0), 3)
    assert len(domains) == 10 and odds.sum() == pytest.approx(1)
    np.testing.assert_allclose(odds[0] / odds, np.arange(1, 11))


@pytest.mark.parametrize("name", ["clouds", "stripes", "grid", "blobs", "dots", "grain"])
def test_patterns_are_centered_and_of_unit_swing(name):
    waves = np.stack(
        [pattern(np.random.default_rng(seed), name, 8.0, 90, 120) for seed in range(10)]
    )
    assert waves.shape == (10, 90, 120)
    assert abs(waves.mean()) < 0.25 and 0.7 < waves.std() < 1.3


def test_matrix_puts_the_middle_of_a_thing_where_it_should_be():
    matrix = matrix_of(np.array([0.5, 10.0, 20.0]), (60.0, 40.0, 0.3), (8.0, 8.0))
    # the world pixel (60,40) is 60.5, 40.5 from the corner; at half the size 30.25, 20.25;
    # the same in the picture
    np.testing.assert_allclose(matrix @ (8, 8, 1), (30.25 + 10 - 0.5, 20.25 + 20 - 0.5))


def test_looks_hold_colors_inside_and_outside_and_no_shape():
    frame, mask = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), bool)
    mask[4:9, 3:9] = True
    frame[mask] = 200, 100, 50
    looks = silhouette_looks.looks_of(frame, mask)
    assert looks.shape == (20,)
    np.testing.assert_allclose(looks[:3], (200, 100, 50))
    np.testing.assert_allclose(looks[10:13], 0)
    moved = silhouette_looks.looks_of(np.roll(frame, 7, 1), np.roll(mask, 7, 1))
    np.testing.assert_allclose(looks, moved, atol=1e-4)


def test_twins_share_the_looks_of_their_source_and_strangers_do_not(source, tmp_path):
    output = render(
        source,
        tmp_path / "out",
        "--knob",
        "twins=1",
        "--level",
        "plain",
        "--knob",
        "domains=500",
    )
    clips = json.loads((output / "silhouettes.json").read_text())["clips"]
    domains = {name: clip["domain"] for name, clip in clips.items()}
    found = {}
    for name, domain in domains.items():
        found.setdefault(silhouettes.source_of(name), set()).add(domain)
    assert (
        all(len(looks) == 1 for looks in found.values())
        and len(set(domains.values())) == len(found) == 3
    )
    alone = render(
        source,
        tmp_path / "alone",
        "--knob",
        "twins=0",
        "--level",
        "plain",
        "--knob",
        "domains=500",
    )
    clips = json.loads((alone / "silhouettes.json").read_text())["clips"]
    assert len({clip["domain"] for clip in clips.values()}) > 8


def test_videos_show_what_the_masks_say(source, tmp_path):
    """In the plain level the actor differs from the ground around it, in every clip and
    frame.
    """
    output = render(source, tmp_path / "out", "--level", "plain")
    for name, video in jhmdb.read_ground_truth(output).videos.items():
        frames = read_frames(
            jhmdb.find_video(output, name), np.arange(video.frames), video.frames
        ).astype(float)
        masks = video.tubes[0].masks[:]
        ring = (
            np.stack([cv2.dilate(m.astype(np.uint8), np.ones((15, 15))) for m in masks]).astype(
                bool
            )
            & ~masks
        )
        assert abs(frames[masks].mean(0) - frames[ring].mean(0)).max() > 5, name


# -------------------------------------------------------------------------- the label curve


def curve_row(budget, seed, score, **others):
    return (
        dict.fromkeys(label_curve.COLUMNS, "")
        | {
            "budget": budget,
            "seed": str(seed),
            "videos": "3",
            "frames": "4",
            "percent_of_frames": "1.00",
            "steps": "7",
            "model": "small",
            "f_map@0.5": score,
            "v_map@0.5": score,
            "seconds": "5",
        }
        | others
    )


def test_budgets_are_named_as_in_the_paper():
    assert [label_curve.name_of(budget) for budget in label_curve.BUDGETS] == [
        "0.15/5",
        "0.45/15",
        "0.99/33",
        "3/60",
        "5.4/80",
        "full",
    ]


def test_the_curve_table_gives_mean_and_deviation_over_seeds_and_the_floor(tmp_path):
    rows = [
        curve_row("0.99/33", 0, "30.0"),
        curve_row("0.99/33", 1, "34.0"),
        curve_row("full", 0, "50.0"),
        curve_row(label_curve.FLOOR, "", "9.0", videos="", frames="", seconds=""),
    ]
    lines = label_curve.report(rows).splitlines()
    assert any(
        line.startswith("| 0.99/33 | 3 | 4 | 32.0 ± 2.8 | 32.0 ± 2.8 |")
        and line.endswith("| 2 |")
        for line in lines
    )
    assert any(line.startswith("| full | 3 | 4 | 50.0 |") for line in lines)
    assert any(line.startswith("| no model |  |  | 9.0 |") for line in lines)
    label_curve.draw(rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_finished_cells_are_not_computed_again_and_settings_are_never_mixed(
    tmp_path, monkeypatch, capsys
):
    asked = []

    def cell(budget, seed, args, with_floor=False):
        asked.append((label_curve.name_of(budget), seed))
        return [curve_row(*asked[-1], "20.0")]

    monkeypatch.setattr(label_curve, "run_cell", cell)
    flags = [
        "--results",
        str(tmp_path / "curve"),
        "--data",
        str(tmp_path),
        "--steps",
        "7",
        "--seeds",
    ]
    with pytest.raises(UserError, match="has no puppet_mask/"):
        label_curve.main([*flags, "0"])
    (tmp_path / "puppet_mask").mkdir()
    assert label_curve.main([*flags, "0"]) == 0 and len(asked) == len(label_curve.BUDGETS)
    assert label_curve.main([*flags, "0"]) == 0 and "none is run" in capsys.readouterr().out
    assert label_curve.main([*flags, "0", "1"]) == 0
    assert asked[len(label_curve.BUDGETS) :] == [
        (name, 1) for name, seed in asked[: len(label_curve.BUDGETS)]
    ]
    assert len(label_curve.read_rows(tmp_path / "curve.csv")) == 2 * len(label_curve.BUDGETS)
    with pytest.raises(UserError, match="steps 7"):
        label_curve.main(["--results", str(tmp_path / "curve"), "--steps", "8"])


def test_a_script_that_fails_is_named_with_its_last_line():
    with pytest.raises(UserError, match=r"claus_select.py --run x.*ended with 2"):
        label_curve.script("claus_select.py", "--run", "x", "--cycle", "-1")


def test_inner_split_keeps_sources_together_and_leaves_the_test_clips_out(tmp_path):
    clips = [
        f"{label}/Film{film}_{label}_{part}"
        for film in range(12)
        for part in (0, 1)
        for label in ("run", "walk")
    ]
    source, output = tmp_path / "set", tmp_path / "inner"
    for clip in clips:
        for path in (
            source / "videos" / f"{clip}.avi",
            source / "puppet_mask" / clip / "puppet_mask.mat",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(clip.encode())
    (source / "trainlist_split1.txt").write_text("\n".join(clips[:40]) + "\n")
    (source / "testlist_split1.txt").write_text("\n".join(clips[40:]) + "\n")
    assert inner_split.main(["--source", str(source), "--output", str(output)]) == 0
    train, test = (
        (output / f"{part}list_split1.txt").read_text().split() for part in ("train", "test")
    )
    assert sorted(train + test) == sorted(clips[:40]) and test
    assert not {clip.partition("_")[0].partition("/")[2] for clip in train} & {
        clip.partition("_")[0].partition("/")[2] for clip in test
    }
    for label in ("run", "walk"):
        assert 0 < sum(clip.startswith(label) for clip in test) <= 0.24 * 20
    assert (output / "videos" / f"{test[0]}.avi").read_bytes() == test[0].encode()
    assert (output / "puppet_mask" / test[0] / "puppet_mask.mat").exists()
    assert not (output / "videos" / f"{clips[47]}.avi").exists()
    assert (
        inner_split.main(["--source", str(source), "--output", str(output)]) == 0
    )  # again: the same
    (output / "testlist_split1.txt").write_text("somebody's own\n")
    with pytest.raises(UserError, match="holds another split"):
        inner_split.main(["--source", str(source), "--output", str(output)])
    assert (output / "testlist_split1.txt").read_text() == "somebody's own\n"
    with pytest.raises(UserError, match="is --source itself"):
        inner_split.main(["--source", str(source), "--output", str(source)])
    with pytest.raises(UserError, match="there is no"):
        inner_split.main(["--source", str(tmp_path), "--output", str(output)])
