"""Plain-text tables of evaluation results, for the screen. Input is what `to_dict()` of a
protocol's result gives.

Numbers are percent with one decimal; "-" is a number that does not exist (a class without
videos, no class scores).
"""

import textwrap

COLUMNS = (0.1, 0.2, 0.3, 0.5, 0.75)
TITLES = {
    "capsule": "protocol: capsule (class-agnostic masks; not the frame-mAP / video-mAP "
    "of the detection field)",
    "act": "protocol: act (frame-mAP / video-mAP of the detection field; not the "
    "capsule protocol's rates of hits)",
}


def capsule_table(result: dict, floor: dict | None = None) -> str:
    """Table of a capsule result: protocol and switches, overall numbers, then one row per
    class.

    result: CapsuleResult.to_dict(), also read back from JSON. floor: floor.to_dict() of the
    same videos, whose numbers are then shown too; ValueError if it was made with other
    switches, for then they cannot be compared.
    """
    _check_protocol("capsule", result, *([] if floor is None else [floor]))
    if floor is not None and floor["switches"] != result["switches"]:
        raise ValueError("the floor was scored with other switches than the result")
    parts = [_header(result, floor), _overall(result, floor), _per_class(result, floor)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


NO_TUBES = "video-mAP is not scored: it needs whole tubes, and single frames are labeled"


def act_table(frame: dict, video: dict | None) -> str:
    """Table of the `act` protocol: switches, frame-mAP and video-mAP, then one row per
    class. video: None where single frames are labeled.

    frame, video: to_dict() of frame_ap and video_ap, also read back from JSON. Raises
    ValueError if they have other classes, or a switch in common that differs: such numbers
    do not belong in one table.
    """
    if video is None:
        return _frame_table(frame)
    _check_protocol("act", frame, video)
    if [frame["measure"], video["measure"]] != ["frame-AP", "video-AP"]:
        raise ValueError(
            f"needs a frame-AP and a video-AP, got {frame['measure']} and {video['measure']}"
        )
    if [row["class"] for row in frame["per_class"]] != [
        row["class"] for row in video["per_class"]
    ]:
        raise ValueError("frame-AP and video-AP were computed for other classes")
    of_frame, of_video = _flat(frame["switches"]), _flat(video["switches"])
    differ = [name for name in of_frame if of_video.get(name, of_frame[name]) != of_frame[name]]
    if differ:
        raise ValueError(
            f"frame-AP and video-AP were computed with another {', '.join(differ)}"
        )
    header = [TITLES["act"], *_switches({**of_frame, **of_video})]
    for result, things in ((frame, "boxes"), (video, "tubes")):
        header.append(
            f"scored: {result['detections']:,} {things} against {result['truths']:,} "
            f"of the ground truth"
        )
    overall = _act_overall(("frame-mAP", frame), ("video-mAP", video))
    parts = [header, overall, _act_per_class(frame, video)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _frame_table(frame):
    _check_protocol("act", frame)
    scored = f"scored: {frame['detections']:,} boxes against {frame['truths']:,} labeled ones"
    rows = [["class", "boxes", "found", "frame@.5"]]
    for row in frame["per_class"]:
        counts = [f"{row[key]:,}" for key in ("truths", "detections")]
        rows.append([row["class"], *counts, _at(frame, row, "ap", 0.5)])
    header = [TITLES["act"], *_switches(_flat(frame["switches"])), scored, NO_TUBES]
    parts = [header, _act_overall(("frame-mAP", frame)), _align(rows)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _act_overall(*results):
    strict = results[0][1]["switches"]["strict"]
    rows = [["IoU " + ("above" if strict else "at least"), *_column_names()]]
    for text, result in results:
        rows.append(
            [
                text,
                *[_at(result, result, "mean_ap", t) for t in COLUMNS],
                _percent(result["mean_ap_50_95"]),
            ]
        )
    return _align(rows)


def _act_per_class(frame, video):
    """One row per class, present or not: how many of the ground truth, how many detections,
    some of its APs.
    """
    sources = [(frame, "frame", 0.5), (video, "video", 0.2), (video, "video", 0.5)]
    head = [f"{text}@{t:g}".replace("@0", "@") for _, text, t in sources]
    rows = [["class", "boxes", "found", "tubes", "found", *head]]
    for i, row in enumerate(frame["per_class"]):
        counts = []
        for result in (frame, video):
            of_class = result["per_class"][i]
            counts += [of_class["truths"], of_class["detections"]]
        rates = [_at(result, result["per_class"][i], "ap", t) for result, _, t in sources]
        rows.append([row["class"], *[f"{count:,}" for count in counts], *rates])
    return _align(rows)


def _check_protocol(protocol, *results):
    for result in results:
        if result["protocol"] != protocol:
            raise ValueError(
                f"a table of the protocol {protocol} cannot show numbers of the protocol "
                f"{result['protocol']}"
            )


def _switches(switches):
    """Lines naming every switch."""
    text = ", ".join(f"{name}={value}" for name, value in _flat(switches).items())
    return textwrap.wrap(
        f"switches: {text}", 110, subsequent_indent="  ", break_on_hyphens=False
    )


def _flat(switches, prefix=""):
    """Switches by name; the settings of a switch that is itself a dict by "switch.setting"."""
    flat = {}
    for name, value in switches.items():
        flat.update(
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {prefix + name: value}
        )
    return flat


def _header(result, floor):
    lines = [TITLES["capsule"], *_switches(result["switches"])]
    missing = result["videos_without_gt"]
    lines.append(
        f"scored: {result['videos']:,} videos, {result['frames']:,} frames"
        + (f"; left out, without ground truth: {missing:,}" if missing else "")
    )
    if floor is not None:
        height, width = (floor["rectangle"][side] for side in ("height", "width"))
        lines.append(
            f"floor: no model, one centered rectangle of {100 * height:g}% x "
            f"{100 * width:g}% of the crop's height x width"
        )
    return lines


def _overall(result, floor):
    """f-mAP and v-mAP at some thresholds and averaged over .5, .55, ..., .95."""
    rows = [["IoU at least", *_column_names()]]
    for text, key in (("f-mAP", "f_map"), ("v-mAP", "v_map")):
        rows.append([text, *_curve(result, key)])
        if result[f"{key}_class_aware"] is not None:
            rows.append([f"{text}, class-aware", *_curve(result, f"{key}_class_aware")])
        if floor is not None:
            rows.append([f"{text}, floor", *_curve(floor, key)])
    return [*_align(rows), f"accuracy  {_percent(result['accuracy'])}"]


def _per_class(result, floor):
    """One row per class, present or not; class-aware and floor columns where there are such
    numbers.
    """
    sources = [(result, "", "f_ap", 0.5), (result, "", "v_ap", 0.2), (result, "", "v_ap", 0.5)]
    if result["accuracy"] is not None:
        sources += [
            (result, " aware", "f_ap_class_aware", 0.5),
            (result, " aware", "v_ap_class_aware", 0.5),
        ]
    if floor is not None:
        sources += [
            (floor, " floor", "f_ap", 0.5),
            (floor, " floor", "v_ap", 0.2),
            (floor, " floor", "v_ap", 0.5),
        ]
    head = [f"{key[0]}@{t:g}{beside}".replace("@0", "@") for _, beside, key, t in sources]
    rows = [["class", "videos", "frames", "accuracy", *head]]
    for i, row in enumerate(result["per_class"]):
        accuracy = (
            row["correct"] / row["videos"]
            if row["correct"] is not None and row["videos"]
            else None
        )
        rates = [_at(source, source["per_class"][i], key, t) for source, _, key, t in sources]
        rows.append(
            [
                row["class"],
                f"{row['videos']:,}",
                f"{row['frames']:,}",
                _percent(accuracy),
                *rates,
            ]
        )
    return _align(rows)


def _column_names():
    return [*[f"{t:g}".lstrip("0") for t in COLUMNS], ".5:.95"]


def _curve(result, key):
    high = [
        value for t, value in zip(result["thresholds"], result[key], strict=True) if t >= 0.5
    ]
    mean = None if None in high else sum(high) / len(high)
    return [*[_at(result, result, key, t) for t in COLUMNS], _percent(mean)]


def _at(result, row, key, threshold):
    """Percent at a threshold; "-" where the number is undefined or was not computed."""
    known = row[key] is not None and threshold in result["thresholds"]
    return _percent(row[key][result["thresholds"].index(threshold)]) if known else "-"


def _percent(value):
    return "-" if value is None else f"{100 * value:.1f}"


def _align(rows):
    """First column to the left, the others to the right, two spaces between."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = row
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
