"""Flags of evaluate.py: those of a protocol that is not scored are refused, the others have
their defaults.
"""

import pytest

from claus.flags import evaluation
from claus.metrics.detections import DetectionSettings

NEEDED = ["--run", "r", "--ground-truth", "o", "--test-list", "l", "--device", "cpu"]
ACT = [
    ["--act-threshold", ".4"],
    ["--min-area", "0"],
    ["--connectivity", "8"],
    ["--class-scores", "video"],
    ["--link", "gaps"],
    ["--nms", "1"],
    ["--strict-iou"],
    ["--voc-matching"],
    ["--envelope"],
    ["--all-classes"],
    ["--no-plus-one"],
]
CAPSULE = [
    ["--gt", "union"],
    ["--absent-class", "nan"],
    ["--count-empty-frames"],
    ["--class-from", "all_clips"],
    ["--no-floor"],
]


@pytest.mark.parametrize(
    ("protocol", "flags"),
    [*(("capsule", flags) for flags in ACT), *(("act", flags) for flags in CAPSULE)],
)
def test_flags_of_the_other_protocol_are_refused(protocol, flags, capsys):
    with pytest.raises(SystemExit):
        evaluation.parse([*NEEDED, "--protocol", protocol, *flags])
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            f"error: {flags[0]} has no effect in --protocol {protocol}; leave it out, "
            f"or give --protocol both"
        )
    )
    for fitting in ("both", {"act": "capsule", "capsule": "act"}[protocol]):
        evaluation.parse([*NEEDED, "--protocol", fitting, *flags])


def test_every_flag_of_a_protocol_is_looked_at():
    for add_group, flags in (
        (evaluation.add_capsule_flags, CAPSULE),
        (evaluation.add_act_flags, ACT),
    ):
        names = [f"--{name.replace('_', '-')}" for name in evaluation.defaults_of(add_group)]
        assert names == [flag[0] for flag in flags]


def test_what_was_not_given_has_its_default():
    for protocol in ("capsule", "act", "both"):
        settings = evaluation.parse([*NEEDED, "--protocol", protocol])
        capsule = evaluation.CapsuleSettings("union", "skip", False, "kept_clips", floor=True)
        assert settings.capsule == capsule
        assert settings.act == DetectionSettings(0.5, 0.001, 8, "clip", "gaps", 0.3)
        assert settings.act.plus_one and not settings.act.strict


def test_pictures_are_shaped_by_flags_of_the_capsule_protocol(capsys):
    drawn = [*NEEDED, "--protocol", "act", "--visualize", "1"]
    settings = evaluation.parse(
        [*drawn, "--gt", "union", "--class-from", "all_clips", "--count-empty-frames"]
    )
    assert settings.capsule.class_from == "all_clips"
    assert settings.capsule.count_empty_frames
    with pytest.raises(SystemExit):
        evaluation.parse([*drawn, "--no-floor"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--act-threshold", "0"], "--act-threshold must lie above 0 and up to 1, not 0.0"),
        (["--nms", "1.5"], "--nms must lie above 0 and up to 1, not 1.5"),
        (["--min-area", "1"], "--min-area is a share of the map"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--labels", "own.pkl"], "give --ground-truth"),
    ],
)
def test_values_without_sense_are_rejected(flags, said, capsys):
    with pytest.raises(SystemExit):
        evaluation.parse([*NEEDED, *flags])
    assert said in capsys.readouterr().err


def test_the_former_name_of_the_ground_truth_still_works():
    former = ["--oracle" if word == "--ground-truth" else word for word in NEEDED]
    assert evaluation.parse(former) == evaluation.parse(NEEDED)
    assert evaluation.parse(former).ground_truth == "o"
