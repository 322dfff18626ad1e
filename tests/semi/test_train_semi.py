"""train_semi.py end to end: every method, both data sets, the published command line, going
on, and bad input.
"""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jhmdb_maker import square_masks, write_set
from semi_tools import batch, tiny_detector
from stopping import Stopped, check_same_weights, kill_before_last_file
from test_semi_lists import entries, halves

import claus_select
import cluster_extract
import evaluate
import run_cycles
import train_semi
from claus import engine
from claus.artifacts import checkpoint
from claus.datasets import toy, ucf101
from claus.datasets.clips.geometry import GEOMETRY, ClipGeometry
from claus.datasets.labels import annotations
from claus.datasets.sprites import write_video
from claus.flags import cycles as cycles_flags
from claus.flags.semi import dashed, parse
from claus.flags.training import parse as parse_training
from claus.models.detector import PRESETS
from claus.semi import recipe
from claus.semi.methods import METHODS, Networks, When
from claus.semi.recipe import Semi
from claus.training import MOST_VALIDATION_FRAMES, Trainer, validation_frames
from claus.utils.runtime import UserError

TRAIN = [
    "--model",
    "small",
    "--pretrained",
    "none",
    "--device",
    "cpu",
    "--bn-batches",
    "1",
    "--bs",
    "4",
]
SHORT = [*TRAIN, "--epochs", "2", "--steps", "4"]


@pytest.fixture(autouse=True, scope="module")
def tiny_network():
    """The small network smaller still, for seconds count; restored afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            PRESETS,
            "small",
            {"width": 0.125, "capsule_types": 4, "kernel": 3, "decoder": 4, "size": 32},
        )
        patch.setitem(GEOMETRY, ("small", "wide"), ClipGeometry((36, 48), (33, 44), 32))
        patch.setitem(GEOMETRY, ("small", "jhmdb"), ClipGeometry((36, 36), (32, 32), 32))
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("data") / "toy", seed=3, train=12, test=6)


def truth(videos):
    return [
        "--oracle",
        str(videos / "pyannot.pkl"),
        "--test-list",
        str(videos / "testlist01.txt"),
    ]


def common(folder, videos, cycle=0):
    return ["--run", str(folder), "--cycle", str(cycle), "--data", str(videos)]


@pytest.fixture(scope="module")
def selected(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "selected"
    claus_select.main(
        [*common(folder, videos), *truth(videos), "--videos-count", "4", "--frames-count", "12"]
    )
    return folder


@pytest.fixture
def run(selected, tmp_path):
    return Path(shutil.copytree(selected, tmp_path / "run"))


def train(folder, videos, *more):
    return train_semi.main([*common(folder, videos), *SHORT, *more])


def lists(videos, folder):
    """The two published lists of the toy videos."""
    known, hidden = halves(
        ucf101.read_ground_truth(videos / "pyannot.pkl", videos / "testlist01.txt", "train")
    )
    paths = folder / "label.pkl", folder / "unlabel.pkl"
    for path, content in zip(paths, (entries(known), entries(hidden)), strict=True):
        path.write_bytes(pickle.dumps(content, protocol=2))
    return [str(path) for path in paths]


# ---- every method ----


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_a_detector_that_evaluates(run, videos, method, capsys):
    more = ["--bv", "--gv"] if method == "consistency" else []
    late = [] if method == "supervised" else ["--thresh-epoch", "2"]
    assert train(run, videos, "--method", method, *more, *late) == 0
    state = checkpoint.load(run / "cycle0" / "detector.pt")
    assert (
        state.detector.config.class_masking
        and state.about["steps"] == 4
        and len(state.about["history"]) == 2
    )
    assert set(state.clusters.assignment) == {
        v.name for v in annotations.load(run / "cycle0" / "annotations.pkl").labeled()
    }
    assert not (run / "cycle0" / "training.pt").exists()
    assert all(np.isfinite(list(epoch.values())).all() for epoch in state.about["history"])
    if method in ("consistency", "stable-mean-teacher"):
        assert evaluate.main([*common(run, videos), *truth(videos), "--device", "cpu"]) == 0
        report = json.loads((run / "cycle0" / "evaluation.json").read_text())
        assert report["capsule"]["videos"] == 6 and len(report["capsule"]["f_map"]) == 20


def test_the_next_scripts_take_what_it_leaves(run, videos):
    train(run, videos, "--method", "mean-teacher")
    assert cluster_extract.main([*common(run, videos), "--device", "cpu", "--passes", "2"]) == 0
    assert (
        claus_select.main(
            [
                *common(run, videos, 1),
                *truth(videos),
                "--videos-count",
                "4",
                "--frames-count",
                "12",
            ]
        )
        == 0
    )
    assert len(annotations.load(run / "cycle1" / "annotations.pkl").labeled()) == 8


def test_the_loss_falls(run, videos):
    """Thirty steps on four videos, with dense enough labels to be learnt by heart."""
    train(
        run,
        videos,
        "--epochs",
        "6",
        "--steps",
        "30",
        "--method",
        "consistency",
        "--bv",
        "--lr",
        "3e-3",
        "--wt-cons",
        "0.01",
    )
    history = checkpoint.load(run / "cycle0" / "detector.pt").about["history"]
    assert (
        history[-1]["total"] < history[0]["total"]
        and history[-1]["bce"] < 0.7 * history[0]["bce"]
    ), history


def test_the_kept_network_of_mean_teacher_is_the_teacher(run, videos, monkeypatch):
    kept = {}
    finished = Trainer.finished

    def watch(self):
        networks = self.recipe.networks
        kept.update(student=networks.detector, teacher=networks.teacher.module)
        return finished(self)

    monkeypatch.setattr(Trainer, "finished", watch)
    train(run, videos, "--method", "mean-teacher")
    saved = checkpoint.load(run / "cycle0" / "detector.pt").detector.state_dict()[
        "smooth.weight"
    ]
    assert torch.equal(saved, kept["teacher"].smooth.weight) and not torch.equal(
        saved, kept["student"].smooth.weight
    )


def test_the_teachers_are_the_exponential_averages_of_what_is_trained(run, videos, monkeypatch):
    """Averaged by hand beside the loop; --wt-loc reaches every term that it weighs."""
    averages, seen, build = {}, {}, Semi.build

    def build_and_watch(self, detector, optimizer):
        built = build(self, detector, optimizer)
        seen["networks"] = pair = self.networks
        pairs = (pair.detector, pair.teacher), (pair.unet, pair.unet_teacher)
        for network, teacher in pairs:
            averages.update(
                {(teacher, name): p.detach().clone() for name, p in network.named_parameters()}
            )
        step = optimizer.step

        def step_and_average():
            step()
            for network, teacher in pairs:
                for name, p in network.named_parameters():
                    averages[teacher, name] = 0.99 * averages[teacher, name] + 0.01 * p.detach()

        optimizer.step = step_and_average
        return built

    monkeypatch.setattr(Semi, "build", build_and_watch)
    train(run, videos, "--method", "stable-mean-teacher", "--wt-loc", "2", "--lr", "1e-2")
    for (teacher, name), expected in averages.items():
        torch.testing.assert_close(
            teacher.module.get_parameter(name), expected, rtol=1e-5, atol=1e-6
        )
    student, teacher = seen["networks"].detector, seen["networks"].teacher.module
    assert (student.smooth.weight - teacher.smooth.weight).abs().max() > 1e-3
    for epoch in checkpoint.load(run / "cycle0" / "detector.pt").about["history"]:
        parts = (
            2 * (epoch["bce"] + epoch["dice"] + epoch["recovery"])
            + 0.3 * epoch["margin"]
            + epoch["cluster"]
        )
        assert epoch["total"] == pytest.approx(parts + 0.1 * epoch["consistency"], rel=1e-4)


# ---- the published command line ----


def test_the_published_command_line_with_lists(videos, tmp_path, capsys):
    label, unlabel = lists(videos, tmp_path)
    command = [
        "--epochs",
        "2",
        "--bs",
        "4",
        "--loc_loss",
        "dice",
        "--lr",
        "1e-4",
        "--pkl_file_label",
        label,
        "--pkl_file_unlabel",
        unlabel,
        "--wt_loc",
        "1",
        "--wt_cls",
        "1",
        "--wt_cons",
        "0.1",
        "--const_loss",
        "l2",
        "--bv",
        "--n_frames",
        "5",
        "--thresh_epoch",
        "11",
        "--exp_id",
        str(tmp_path / "run"),
        "--data",
        str(videos),
        "--no-validation",
        *TRAIN[:-2],
    ]
    assert train_semi.main(command) == 0
    hidden = len(pickle.loads(Path(unlabel).read_bytes()))
    steps = 2 * -(-hidden // 2)  # two passes over them, two in a batch
    said = (
        f"{12 - hidden} labeled videos to train on, 0 to validate on, {hidden} without "
        f"labels; {steps} steps"
    )
    assert said in capsys.readouterr().out
    labels = annotations.load(tmp_path / "run" / "cycle0" / "annotations.pkl")
    assert len(labels.videos) == 12 and len(labels.labeled()) == 12 - hidden
    assert (
        checkpoint.load(tmp_path / "run" / "cycle0" / "detector.pt").about["arguments"][
            "cluster_weight"
        ]
        == 0
    )
    assert train_semi.main([*command, "--force", "--gv", "--loc_loss=iou"]) == 0
    about = checkpoint.load(tmp_path / "run" / "cycle0" / "detector.pt").about
    assert "iou" in about["history"][0] and about["arguments"]["gv"] is True
    held = (tmp_path / "run" / "cycle0" / "annotations.pkl").read_bytes()
    (tmp_path / "run" / "cycle0" / "detector.pt").unlink()
    assert train_semi.main(command) == 0  # made again, the file is the same
    assert (tmp_path / "run" / "cycle0" / "annotations.pkl").read_bytes() == held


@pytest.mark.parametrize("more", [[], ["--labeled-half"]])
def test_supervised_training_has_as_many_steps_as_the_others_beside_the_same_lists(
    videos, tmp_path, more, capsys
):
    """Labeled clips alone: all of a batch, or half."""
    known, hidden = halves(
        ucf101.read_ground_truth(videos / "pyannot.pkl", videos / "testlist01.txt", "train")
    )
    paths = [tmp_path / name for name in ("label.pkl", "unlabel.pkl")]
    for path, content in zip(
        paths, (entries(known)[:3], entries(known[3:] + hidden)), strict=True
    ):
        path.write_bytes(pickle.dumps(content, protocol=2))
    given = [
        "--run",
        str(tmp_path / "run"),
        "--data",
        str(videos),
        *TRAIN,
        "--epochs",
        "2",
        "--pkl-file-label",
        str(paths[0]),
        "--pkl-file-unlabel",
        str(paths[1]),
        "--no-validation",
        "--force",
    ]
    for method in (["consistency"], ["supervised", *more]):
        assert train_semi.main([*given, "--method", *method]) == 0
        assert "; 10 steps in 2 epochs" in capsys.readouterr().out  # nine videos, two a step
        assert checkpoint.load(tmp_path / "run" / "cycle0" / "detector.pt").about["steps"] == 10


def test_lists_do_not_replace_other_labels(run, videos, tmp_path):
    label, unlabel = lists(videos, tmp_path)
    before = (run / "cycle0" / "annotations.pkl").read_bytes()
    with pytest.raises(UserError, match="other labels than the lists"):
        train(run, videos, "--pkl-file-label", label, "--pkl-file-unlabel", unlabel)
    assert (run / "cycle0" / "annotations.pkl").read_bytes() == before
    assert [
        path.name for path in (run / "cycle0").iterdir() if path.name.endswith(".tmp")
    ] == []


def test_jhmdb_with_text_lists(tmp_path):
    root, rng, clips = tmp_path / "tiny", np.random.default_rng(5), {}
    for number in range(8):
        name, masks = (
            f"{('catch', 'wave')[number % 2]}/clip_{number}",
            square_masks(18, 36, 48, (number, 9), 14),
        )
        clips[name] = masks, "train" if number < 6 else "test"
        path = root / "videos" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(
            path,
            np.where(masks[..., None], 200, rng.integers(0, 90, (36, 48, 3))).astype(np.uint8),
        )
    write_set(root, clips)
    names = (root / "trainlist_split1.txt").read_text().splitlines()
    (tmp_path / "label.txt").write_text("\n".join(names[:4]))
    (tmp_path / "unlabel.txt").write_text("\n".join(names[4:]))
    flags = ["--run", str(tmp_path / "run"), "--data", str(root), "--dataset", "jhmdb"]
    assert (
        train_semi.main(
            [
                *flags,
                *SHORT,
                "--pkl-file-label",
                str(tmp_path / "label.txt"),
                "--pkl-file-unlabel",
                str(tmp_path / "unlabel.txt"),
                "--const-loss",
                "jsd",
            ]
        )
        == 0
    )
    state = checkpoint.load(tmp_path / "run" / "cycle0" / "detector.pt")
    assert state.dataset == "jhmdb-21" and len(state.classes) == 21
    assert evaluate.main([*flags, "--oracle", str(root), "--device", "cpu"]) == 0


def loss_with(flags):
    """Loss of one batch, in the tenth of 20 epochs, by a training with these flags."""
    settings = parse(
        ["--run", "x", "--device", "cpu", "--model", "small", "--epochs", "20", *flags]
    )
    losses = settings.training.loss
    networks, content = Networks(tiny_detector().train()), batch()
    torch.manual_seed(1)
    centers = torch.zeros(2, networks.detector.config.latent_size)
    return METHODS[settings.method](
        networks, content, centers, losses, settings.options, When(9, 20)
    )[0].item()


@pytest.mark.parametrize(
    "flags",
    [
        "--const-loss l1",
        "--const-loss jsd",
        "--predict-maps",
        "--bv",
        "--bv --n-frames 3",
        "--gv",
        "--gv --gv-clamp 0 0.001",
        "--gv --compat",
        "--bv --gv",
        "--bv --gv --bv-wt 0.9",
        "--bv --gv --gv-wt 0.9",
        "--bv --predict-maps",
        "--bv --const-loss l1",
        "--gv --const-loss jsd",
        "--wt-cons 0.7",
        "--wt-loc 2",
        "--wt-cls 2",
        "--loc-loss iou",
        "--no-class-mask",
        "--thresh-epoch 11",
        "--cluster-weight 1",
    ],
)
def test_every_flag_changes_the_loss(flags):
    """Against the loss without the last flag."""
    flags = flags.split()
    last = max(i for i, word in enumerate(flags) if word.startswith("--"))
    assert loss_with(flags) != loss_with(flags[:last])


def test_dashes_and_underscores_are_the_same_and_values_stay():
    assert [
        dashed(x) for x in ("--wt_cons", "--exp_id=a_b", "my_run", "--pkl_file_label", "-1_0")
    ] == ["--wt-cons", "--exp-id=a_b", "my_run", "--pkl-file-label", "-1_0"]


def test_the_defaults_are_the_published_ones():
    settings = parse(["--exp_id", "x", "--pkl_file_label", "a", "--pkl_file_unlabel", "b"])
    training, options = settings.training, settings.options
    optimizer, loss = training.optimizer, training.loss
    assert (optimizer.epochs, optimizer.batch_size, optimizer.adam_eps) == (100, 8, 1e-6)
    assert (optimizer.lr, optimizer.encoder_lr) == (1e-4, 1e-4)
    assert optimizer.lr_schedule == "plateau"
    assert (loss.localization_weight, loss.margin_weight, loss.last_margin) == (1, 1, 0.2)
    assert (options.wt_cons, options.const_loss, options.loc_loss) == (0.1, "l2", "dice")
    assert (options.n_frames, options.thresh_epoch) == (5, 11)
    assert (options.bv_wt, options.gv_wt) == (0.5, 0.5)
    assert (settings.method, training.place.run) == ("consistency", "x")


@pytest.mark.parametrize(("epochs", "believes"), [(100, 11), (40, 5), (10, 2), (5, 2), (1, 1)])
def test_shorter_trainings_believe_themselves_as_early_in_proportion(epochs, believes):
    settings = parse(["--run", "x", "--method", "pseudo-label", "--epochs", str(epochs)])
    assert settings.options.thresh_epoch == believes


# ---- the learning rate ----


def test_the_rate_falls_to_a_tenth_after_five_epochs_without_better_loss(
    run, videos, monkeypatch
):
    totals, rates = iter([5.0, 4.0, 4.0, 4.5, 4.2, 4.0, 4.1, 3.0, 3.5]), []

    def train_nothing(step, clusters, batches, optimizer, *rest):
        rates.append([round(group["lr"], 9) for group in optimizer.param_groups])
        return engine.Epoch({"total": next(totals)}, 4, 1.0, {})

    monkeypatch.setattr(engine, "train_one_epoch", train_nothing)
    train(
        run,
        videos,
        "--epochs",
        "9",
        "--steps",
        "9",
        "--lr-schedule",
        "plateau",
        "--lr",
        "1e-3",
        "--encoder-lr",
        "1e-4",
    )
    assert rates[:7] == [[1e-3, 1e-4]] * 7  # epochs 3 to 7 are the five without better
    assert rates[7:] == [[1e-4, 1e-5]] * 2


# ---- going on ----


@pytest.mark.parametrize("method", ["consistency", "stable-mean-teacher", "mixmatch"])
def test_resumed_training_is_that_of_an_uninterrupted_one(
    run, videos, method, tmp_path, monkeypatch
):
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    flags = ["--method", method, "--thresh-epoch", "2", "--lr-schedule", "plateau"]
    train(whole, videos, *flags)
    save = checkpoint.save

    def save_and_stop(state, path):
        save(state, path)
        if Path(path).name == "training.pt":
            raise Stopped

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(Stopped):
        train(run, videos, *flags)
    monkeypatch.undo()
    with pytest.raises(UserError, match="interrupted training"):
        train(run, videos, *flags)
    with pytest.raises(UserError, match="--wt-cons"):
        train(run, videos, *flags, "--resume", "--wt-cons", "0.3")
    torch.manual_seed(12345)  # the state comes from the file, not from this process
    train(run, videos, *flags, "--resume")
    first, second = check_same_weights(whole, run)
    assert (
        first.about["history"] == second.about["history"] and len(first.about["history"]) == 2
    )


def stop_after(monkeypatch, epochs):
    """Let a training be killed when it has saved its state of so many epochs."""
    save = checkpoint.save

    def save_and_stop(state, path):
        save(state, path)
        if Path(path).name == "training.pt" and state["epoch"] == epochs:
            raise Stopped

    monkeypatch.setattr(checkpoint, "save", save_and_stop)


@pytest.mark.parametrize("method", ["consistency", "supervised"])
def test_the_learning_rate_goes_on_from_where_it_had_fallen_to(
    run, videos, method, tmp_path, monkeypatch
):
    """With a patience of one epoch: the rate has fallen before the training is killed, and
    falls again after.
    """
    whole, rates, run_epoch = (
        Path(shutil.copytree(run, tmp_path / "whole")),
        [],
        Trainer.run_epoch,
    )
    losses = iter([5.0, 6.0, 4.0, 7.0, 3.0, 8.0])  # falls after epochs 2, 4, 6

    def watched(self, epoch, writer):
        rates.append((epoch, self.optimizer.param_groups[0]["lr"]))
        run_epoch(self, epoch, writer)

    def losing(*given):
        epoch = trained(*given)
        return epoch._replace(terms={**epoch.terms, "total": next(losses)})

    trained = engine.train_one_epoch
    monkeypatch.setattr(recipe, "PATIENCE", 1)
    monkeypatch.setattr("claus.steps.train.SAVING_SHARE", 1e9)  # training.pt of every epoch
    monkeypatch.setattr(Trainer, "run_epoch", watched)
    monkeypatch.setattr(engine, "train_one_epoch", losing)
    flags = [
        "--method",
        method,
        "--lr-schedule",
        "plateau",
        "--epochs",
        "6",
        "--steps",
        "6",
        "--lr",
        "1e-2",
    ]
    train(whole, videos, *flags)
    expected = rates[:]
    assert [rate for _, rate in expected] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])
    rates.clear()
    losses = iter([5.0, 6.0, 4.0, 7.0, 3.0, 8.0])
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            train(run, videos, *flags)
    torch.manual_seed(999)
    train(run, videos, *flags, "--resume")
    assert rates == expected
    check_same_weights(whole, run)


def test_a_resumed_training_keeps_to_the_unlabeled_videos_it_began_with(
    run, videos, tmp_path, monkeypatch
):
    """Although another one has been put where it belongs meanwhile."""
    fewer = Path(shutil.copytree(videos, tmp_path / "fewer"))
    pool = annotations.load(run / "cycle0" / "annotations.pkl").videos.values()
    missing = next(video.name for video in pool if not video.is_labeled)
    ucf101.find_video(fewer, missing).unlink()
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    train(whole, fewer)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Stopped):
            train(run, fewer)
    train(run, videos, "--resume")
    check_same_weights(whole, run)


def test_killed_before_its_last_file_a_training_ends_the_same(run, videos, tmp_path):
    """The batch norm is re-estimated on the clips of the last epoch, not on those of the
    first.
    """
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    train(whole, videos)
    kill_before_last_file(lambda: train(run, videos))
    train(run, videos, "--resume")
    check_same_weights(whole, run)


@pytest.mark.parametrize(
    "method, passes", [("consistency", 2), ("mixmatch", 3), ("mean-teacher", 1)]
)
def test_dropout_depends_on_seed_step_and_pass_alone(run, videos, method, passes, monkeypatch):
    """Every pass of a step asks for masks of its own; the first has those of
    train_ucf101.py.
    """
    drawn, dropout_masks = [], engine.dropout_masks

    def watched(detector, seed, step, batch, number=0):
        drawn.append((seed, step, number))
        return dropout_masks(detector, seed, step, batch, number)

    monkeypatch.setattr(engine, "dropout_masks", watched)
    train(run, videos, "--method", method, "--seed", "3")
    assert drawn == [(3, step, number) for step in range(4) for number in range(passes)]
    detector = tiny_detector()
    first, again, other = (
        dropout_masks(detector, 3, 2, 4, *number)[0] for number in ((), (0,), (1,))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_state_of_torchs_generator_does_not_matter_to_consistency(
    run, videos, tmp_path, monkeypatch
):
    """Disturbed before every step, the training is the same: nothing in it draws from there."""
    plain = Path(shutil.copytree(run, tmp_path / "plain"))
    train(plain, videos)
    to_device = engine.to_device
    monkeypatch.setattr(engine, "to_device", lambda *rest: (torch.rand(3), to_device(*rest))[1])
    train(run, videos)
    first, second = (
        checkpoint.load(folder / "cycle0" / "detector.pt").detector for folder in (plain, run)
    )
    assert all(
        torch.equal(value, second.state_dict()[name])
        for name, value in first.state_dict().items()
    )


# ---- what it may not see ----


def test_hidden_labels_change_nothing(videos, tmp_path):
    """Other boxes and classes in the unlabeled list: the same weights."""
    label, unlabel = lists(videos, tmp_path)
    content = pickle.loads(Path(unlabel).read_bytes())
    nonsense = tmp_path / "nonsense.pkl"
    nonsense.write_bytes(
        pickle.dumps([(name, [(0, 1, 5, np.full((2, 4), 9), [0, 1])]) for name, _ in content])
    )
    weights = []
    for number, path in enumerate((unlabel, str(nonsense))):
        train_semi.main(
            [
                "--run",
                str(tmp_path / f"run{number}"),
                "--data",
                str(videos),
                *SHORT,
                "--pkl-file-label",
                label,
                "--pkl-file-unlabel",
                path,
            ]
        )
        weights.append(
            checkpoint.load(
                tmp_path / f"run{number}" / "cycle0" / "detector.pt"
            ).detector.state_dict()
        )
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_checkpoint_is_chosen_on_held_out_labeled_videos_alone(
    videos, tmp_path, monkeypatch
):
    """With 30 labeled frames to hold out, the best validated epoch is kept; only labeled
    videos are looked at.
    """
    folder = tmp_path / "run"
    claus_select.main(
        [
            *common(folder, videos),
            *truth(videos),
            "--videos-count",
            "10",
            "--frames-count",
            "450",
        ]
    )
    scored, scores = [], iter([0.9, 0.1])

    def validate(detector, batches, classes, pixel_range, amp, failed):
        scored.extend(name for batch in batches for name in batch["name"])
        return {"f@.5": next(scores), "mean IoU": 0.0, "accuracy": 0.0}

    monkeypatch.setattr(engine, "validate", validate)
    train(folder, videos, "--epochs", "2", "--steps", "2")
    labels = annotations.load(folder / "cycle0" / "annotations.pkl")
    held_out = set(scored)
    assert len(held_out) == 1 and held_out < {video.name for video in labels.labeled()}
    assert set(labels.videos).isdisjoint((videos / "testlist01.txt").read_text().split())
    state = checkpoint.load(folder / "cycle0" / "detector.pt")
    assert state.about["steps"] == 1 and not held_out & set(state.clusters.assignment)


# ---- bad input ----


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--n_frames", "4", "--bv"], "--n-frames 4 has no middle frame"),
        (["--const_loss", "mse"], "invalid choice: 'mse'"),
        (["--n-frames", "5"], "--n-frames has no effect without --bv"),
        (["--compat"], "--compat has no effect without --gv"),
        (
            ["--bv", "--method", "mixmatch"],
            "--bv is for --method consistency, not for mixmatch",
        ),
        (["--wt-cons", "1", "--method", "supervised"], "--wt-cons is for --method"),
        (
            ["--thresh-epoch", "3", "--no-class-mask"],
            "--thresh-epoch has no effect beside --no-class-mask",
        ),
        (["--bs", "1"], "--bs must be at least 2"),
        (["--confidence", "0.3", "--method", "co-ssd"], "--confidence must lie from 0.5"),
        (["--pkl_file_unlabel", "x"], "--pkl-file-unlabel needs --pkl-file-label"),
        (["--pkl_file_label", "x"], "needs --pkl-file-unlabel"),
        (["--wt_cls", "-1"], "--wt-cls must be 0 or more"),
        (["--crop", "wide", "--dataset", "jhmdb"], "--crop wide is not for --dataset jhmdb"),
        (["--boxes-from", "0"], "--boxes-from is for the lists of --dataset ucf101"),
        (["--steps", "3", "--epochs", "4"], "--steps 3 is fewer than --epochs 4"),
    ],
    ids=lambda value: str(value[:2]),
)
def test_flags_that_make_no_sense(flags, said, capsys):
    with pytest.raises(SystemExit):
        parse(["--run", "x", "--device", "cpu", *flags])
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_labeled_half_alone(capsys):
    """As many labeled clips a step as beside unlabeled ones."""
    command = [
        "--run",
        "x",
        "--device",
        "cpu",
        "--method",
        "supervised",
        "--labeled-half",
        "--bs",
    ]
    assert parse([*command, "10"]).training.optimizer.batch_size == 5
    old = [word.replace("labeled", "labelled") for word in command]  # of runs before 0.2
    assert parse([*old, "10"]) == parse([*command, "10"])
    for wrong, said in (
        ([*command, "1"], "--bs must be at least 2"),
        ([*command, "9"], "must be even, not 9"),
        ([*command[:4], "--labeled-half"], "--labeled-half is for --method supervised"),
    ):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert said in capsys.readouterr().err


def test_run_cycles_takes_one_method_and_not_two(videos, tmp_path):
    command = ["--run", str(tmp_path / "run"), *truth(videos), "--data", str(videos), "--semi"]
    with pytest.raises(
        UserError, match="--semi mixmatch and --train '--method co-ssd' differ in the method"
    ):
        run_cycles.main([*command, "mixmatch", "--train", "--method co-ssd"])
    assert not (tmp_path / "run" / "run.json").exists()
    assert cycles_flags.parse([*command, "mean_teacher"]).semi == "mean-teacher"


def test_class_masks_that_are_never_trained_are_said(capsys):
    """The predicted class masks poses at test time, whether training has seen that or not."""
    for more, said in (([], True), (["--no-class-mask"], False)):
        flags = ["--run", "x", "--device", "cpu", "--epochs", "5", *more]
        parse([*flags, *([] if more else ["--thresh_epoch", "11"])])
        assert (
            "--thresh-epoch 11 is never reached in 5 epochs" in capsys.readouterr().out
        ) == said


def test_weights_that_are_not_there_are_named_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="--pretrained .*none.pt: no such file"):
        train_semi.main(
            [
                "--run",
                str(tmp_path / "run"),
                "--device",
                "cpu",
                "--pretrained",
                str(tmp_path / "none.pt"),
                "--pkl-file-label",
                "a.pkl",
                "--pkl-file-unlabel",
                "b.pkl",
            ]
        )
    assert not (tmp_path / "run").exists()


def test_held_out_frames_are_those_with_action_and_not_too_many(videos):
    video = next(
        video
        for video in ucf101.read_ground_truth(
            videos / "pyannot.pkl", videos / "testlist01.txt", "train"
        ).videos.values()
        if video.frames >= 40
    )
    tube = replace(
        video.tubes[0], frames=np.arange(5, 40), boxes=np.tile([4, 4, 20, 20], (35, 1))
    )
    dense = replace(video, tubes=(tube,), labeled_frames=np.arange(video.frames))
    chosen = validation_frames(dense)
    assert len(chosen) == MOST_VALIDATION_FRAMES and chosen == sorted(set(chosen))
    assert (
        chosen[0] == tube.frames[0] and chosen[-1] == tube.frames[-1]
    )  # from the first with action to the last
    sparse = replace(
        dense,
        labeled_frames=tube.frames[[0, 3]],
        tubes=(replace(tube, frames=tube.frames[[0, 3]], boxes=tube.boxes[[0, 3]]),),
    )
    assert validation_frames(sparse) == tube.frames[[0, 3]].tolist()
    assert validation_frames(replace(sparse, tubes=())) == tube.frames[[0, 3]].tolist()


def test_pseudo_labels_wait_for_their_epoch_without_class_masks_too():
    settings = parse(
        [
            "--run",
            "x",
            "--device",
            "cpu",
            "--method",
            "pseudo-label",
            "--no-class-mask",
            "--thresh-epoch",
            "3",
        ]
    )
    assert settings.options.thresh_epoch == 3 and not settings.options.class_mask


def test_both_training_scripts_take_the_same_running_flags():
    flags = [
        "--resume",
        "--force",
        "--strict",
        "--device",
        "cpu",
        "--workers",
        "3",
        "--cache-gb",
        "1.5",
        "--cache-dir",
        "kept",
    ]
    semi, plain = parse(["--run", "x", *flags]).training, parse_training(["--run", "x", *flags])
    assert (semi.resume, semi.hardware) == (plain.resume, plain.hardware)
    assert semi.hardware.cache_dir == "kept" and semi.hardware.workers == 3
    assert semi.resume.resume and semi.resume.force and semi.resume.strict


def test_lists_that_make_no_sense(videos, tmp_path):
    label, _ = lists(videos, tmp_path)
    (tmp_path / "empty.pkl").write_bytes(pickle.dumps([]))
    for unlabel, said in (
        (tmp_path / "empty.pkl", "the unlabeled list is empty"),
        (label, "in the unlabeled list too"),
    ):
        with pytest.raises(UserError, match=said) as error:
            train_semi.main(
                [
                    "--run",
                    str(tmp_path / "run"),
                    "--data",
                    str(videos),
                    *SHORT,
                    "--pkl-file-label",
                    label,
                    "--pkl-file-unlabel",
                    str(unlabel),
                ]
            )
        assert "\n" not in str(error.value)


def test_a_fully_labeled_pool_is_trained_supervised_and_says_so(videos, tmp_path, capsys):
    folder = tmp_path / "run"
    claus_select.main(
        [
            *common(folder, videos),
            *truth(videos),
            "--videos-count",
            "12",
            "--frames-count",
            "24",
        ]
    )
    train(folder, videos)
    assert "every video is labeled" in capsys.readouterr().out
    assert (
        checkpoint.load(folder / "cycle0" / "detector.pt").about["arguments"]["method"]
        == "supervised"
    )


def test_unlabeled_videos_that_are_missing_or_damaged_are_named(run, videos, tmp_path, capsys):
    copy = shutil.copytree(videos, tmp_path / "copy")
    labels = annotations.load(run / "cycle0" / "annotations.pkl")
    missing, cut = [video.name for video in labels.videos.values() if not video.is_labeled][:2]
    (copy / "videos" / f"{missing}.avi").unlink()
    path = copy / "videos" / f"{cut}.avi"
    path.write_bytes(path.read_bytes()[:300])
    train(run, copy, "--epochs", "1", "--steps", "6")
    said = capsys.readouterr().out
    assert "2 of 12 videos were skipped" in said and missing in said and cut in said


# ---- in the cycle ----


def test_cycles_train_on_the_unlabeled_videos_too(videos, tmp_path):
    folder = tmp_path / "run"
    command = [
        "--run",
        str(folder),
        "--data",
        str(videos),
        *truth(videos),
        "--device",
        "cpu",
        "--train",
        "--model small --pretrained none --epochs 1 --steps 2 --bn-batches 1 --bs 4 "
        "--thresh-epoch 1",
        "--extract",
        "--passes 2",
        "--select",
        "--videos-count 4 --frames-count 8",
        "--cycles",
        "2",
        "--semi",
        "pseudo-label",
    ]
    assert run_cycles.main(command) == 0
    assert len((folder / "results.csv").read_text().splitlines()) == 3
    for cycle in (0, 1):
        arguments = checkpoint.load(folder / f"cycle{cycle}" / "detector.pt").about["arguments"]
        assert arguments["method"] == "pseudo-label"
    with pytest.raises(SystemExit):
        run_cycles.main([*command[:-1], "no-such-method"])


def test_an_epoch_that_is_never_reached_is_said(tmp_path, capsys):
    command = [
        "--run",
        str(tmp_path),
        "--cycle",
        "0",
        "--method",
        "pseudo-label",
        "--thresh-epoch",
        "11",
        "--epochs",
    ]
    with pytest.raises(SystemExit):
        parse([*command, "10"])
    assert "--thresh-epoch 11 is never reached in 10 epochs" in capsys.readouterr().err
    parse([*command, "11"])
