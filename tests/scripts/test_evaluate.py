"""Flags of evaluate.py: those of a protocol that is not scored are refused, the others have
their defaults.
"""

import pytest

import evaluate

NEEDED = ["--run", "r", "--oracle", "o", "--test-list", "l", "--device", "cpu"]
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
        evaluate.parse_args([*NEEDED, "--protocol", protocol, *flags])
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            f"error: {flags[0]} plays no part in --protocol {protocol}; leave it out, "
            f"or give --protocol both"
        )
    )
    for fitting in ("both", {"act": "capsule", "capsule": "act"}[protocol]):
        evaluate.parse_args([*NEEDED, "--protocol", fitting, *flags])


def test_every_flag_of_a_protocol_is_looked_at():
    for add_group, flags in (
        (evaluate.capsule_flags, CAPSULE),
        (evaluate.act_scoring.add_flags, ACT),
    ):
        names = [f"--{name.replace('_', '-')}" for name in evaluate.defaults_of(add_group)]
        assert names == [flag[0] for flag in flags]


def test_what_was_not_given_has_its_default():
    for protocol in ("capsule", "act", "both"):
        args = evaluate.parse_args([*NEEDED, "--protocol", protocol])
        assert (args.gt, args.no_floor, args.class_from, args.absent_class) == (
            "union",
            False,
            "kept_clips",
            "skip",
        )
        assert (args.act_threshold, args.link, args.nms, args.connectivity) == (
            0.5,
            "gaps",
            0.3,
            8,
        )
        assert args.strict_iou is False and args.count_empty_frames is False


def test_pictures_are_shaped_by_flags_of_the_capsule_protocol(capsys):
    drawn = [*NEEDED, "--protocol", "act", "--visualize", "1"]
    args = evaluate.parse_args(
        [*drawn, "--gt", "union", "--class-from", "all_clips", "--count-empty-frames"]
    )
    assert args.class_from == "all_clips" and args.count_empty_frames
    with pytest.raises(SystemExit):
        evaluate.parse_args([*drawn, "--no-floor"])
