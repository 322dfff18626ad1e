"""The `act` protocol in plain loops over Python numbers, exact where boxes are whole numbers:
what metrics/ is tested against.

Written from the definitions, not from the fast code. Boxes are tuples with inclusive
corners. Ground truth is rows (video, frame, class, x0, y0, x1, y1), detections have the
score before the corners. Tubes are (video, class, {frame: box}, score). Thresholds are best
given as Fractions.
"""

from fractions import Fraction


def divide(a, b):
    return (
        Fraction(a, b)
        if isinstance(a, int | Fraction) and isinstance(b, int | Fraction)
        else a / b
    )


def box_iou(a, b, one=1):
    def area(x0, y0, x1, y1):
        return max(0, x1 - x0 + one) * max(0, y1 - y0 + one)

    inter = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    return divide(inter, area(*a) + area(*b) - inter) if inter else 0


def tube_iou(a, b, one=1):
    """Of two {frame: box}: mean IoU of the shared frames x temporal IoU."""
    shared = [frame for frame in a if frame in b]
    if not shared:
        return 0
    ious = [box_iou(a[frame], b[frame], one) for frame in shared]
    return divide(sum(ious), len(shared)) * Fraction(len(shared), len(set(a) | set(b)))


def average_precision(hits, n, envelope):
    """AP of a list of True and False in order of score; None without ground truth."""
    if n == 0:
        return None
    curve, true = [(Fraction(0), Fraction(1))], 0
    for i, hit in enumerate(hits):
        true += hit
        curve.append((Fraction(true, n), Fraction(true, i + 1)))
    area = Fraction(0)
    for i in range(1, len(curve)):
        (r0, p0), (r1, p1) = curve[i - 1 : i + 1]
        area += (r1 - r0) * (max(p for _, p in curve[i:]) if envelope else (p0 + p1) / 2)
    return area


def class_ap(truth, found, iou, t, strict, voc_matching, envelope):
    """truth: {place: [thing]}, found: [(place, score, thing)] in the order given."""
    matched, hits = {place: [False] * len(things) for place, things in truth.items()}, []
    for place, _, thing in sorted(found, key=lambda row: -row[1]):
        best, best_iou = None, -1
        for i, other in enumerate(truth.get(place, [])):
            overlap = iou(other, thing)
            if overlap > best_iou and (voc_matching or not matched[place][i]):
                best, best_iou = i, overlap
        hit = (
            best is not None
            and (best_iou > t if strict else best_iou >= t)
            and not matched[place][best]
        )
        if hit:
            matched[place][best] = True
        hits.append(hit)
    return average_precision(hits, sum(map(len, truth.values())), envelope)


def frame_ap(
    truth,
    found,
    n_classes,
    t,
    *,
    plus_one=True,
    strict=False,
    voc_matching=False,
    envelope=False,
):
    """AP of each class, None where it is undefined."""
    result = []
    for c in range(n_classes):
        places = {}
        for video, frame, label, *box in truth:
            if label == c:
                places.setdefault((video, frame), []).append(box)
        detections = [
            ((video, frame), score, box)
            for video, frame, label, score, *box in found
            if label == c
        ]
        result.append(
            class_ap(
                places,
                detections,
                lambda a, b: box_iou(a, b, int(plus_one)),
                t,
                strict,
                voc_matching,
                envelope,
            )
        )
    return result


def tube_nms(tubes, threshold, one=1):
    """Tubes that are kept, in the order given."""
    order, kept = sorted(range(len(tubes)), key=lambda i: -tubes[i][3]), []
    for i in order:
        video, label, boxes, _ = tubes[i]
        if all(
            tubes[j][:2] != (video, label) or tube_iou(tubes[j][2], boxes, one) <= threshold
            for j in kept
        ):
            kept.append(i)
    return [tubes[i] for i in sorted(kept)]


def video_ap(
    truth,
    found,
    n_classes,
    t,
    *,
    nms=Fraction(3, 10),
    plus_one=True,
    strict=False,
    voc_matching=False,
    envelope=False,
):
    """AP of each class, None where it is undefined."""
    one, result = int(plus_one), []
    found = found if nms is None else tube_nms(found, nms, one)
    for c in range(n_classes):
        places = {}
        for video, label, boxes, _ in truth:
            if label == c:
                places.setdefault(video, []).append(boxes)
        detections = [
            (video, score, boxes) for video, label, boxes, score in found if label == c
        ]
        result.append(
            class_ap(
                places,
                detections,
                lambda a, b: tube_iou(a, b, one),
                t,
                strict,
                voc_matching,
                envelope,
            )
        )
    return result


def mean_ap(aps, all_classes=False):
    known = [ap for ap in aps if ap is not None]
    if all_classes:
        return sum(known) / len(aps)
    return sum(known) / len(known) if known else float("nan")


def soft_nms(boxes, threshold, keep, one=1):
    """[(score, box)] of one frame in the order given -> the `keep` best after weakening, in
    the order given.
    """
    order, strong, score = (
        sorted(range(len(boxes)), key=lambda i: -boxes[i][0]),
        [],
        [s for s, _ in boxes],
    )
    for i in order if threshold is not None else []:
        overlaps = [box_iou(boxes[j][1], boxes[i][1], one) for j in strong]
        above = [overlap for overlap in overlaps if overlap > threshold]
        if above:
            score[i] *= 1 - above[0]
        else:
            strong.append(i)
    best = sorted(range(len(boxes)), key=lambda i: -score[i])[:keep]
    return [(score[i], boxes[i][1]) for i in sorted(best)]


def link(rows, min_iou, max_gap, prefer, soft_nms_at, keep, min_score, min_length, one=1):
    """Detections of any videos and classes -> tubes, sorted by video, class, first frame."""
    tubes = []
    for video, label in sorted({(row[0], row[2]) for row in rows}):
        mine = [row for row in rows if (row[0], row[2]) == (video, label)]
        tracks = []  # [[(frame, score, box)]] in the order in which they begin
        for frame in range(min(row[1] for row in mine), max(row[1] for row in mine) + 1):
            free = soft_nms(
                [(row[3], tuple(row[4:])) for row in mine if row[1] == frame],
                soft_nms_at,
                keep,
                one,
            )
            running = [track for track in tracks if frame - track[-1][0] <= max_gap + 1]
            for track in sorted(
                running, key=lambda track: -divide(sum(s for _, s, _ in track), len(track))
            ):
                near = [
                    (box_iou(track[-1][2], box, one), -i) for i, (_, box) in enumerate(free)
                ]
                near = [
                    (iou if prefer == "iou" else free[-i][0], i)
                    for iou, i in near
                    if iou >= min_iou
                ]
                if near:
                    track.append((frame, *free.pop(-max(near)[1])))
            tracks += [[(frame, *one_box)] for one_box in free]
        for track in tracks:
            score = divide(sum(s for _, s, _ in track), len(track))
            if score >= min_score and track[-1][0] - track[0][0] + 1 >= min_length:
                tubes.append((video, label, filled(track), score))
    return sorted(tubes, key=lambda tube: (tube[0], tube[1], min(tube[2])))


def filled(track):
    """[(frame, score, box)] -> {frame: box} without gaps."""
    boxes = {}
    for (f0, _, a), (f1, _, b) in zip(track, track[1:], strict=False):
        for frame in range(f0, f1):
            part = Fraction(frame - f0, f1 - f0)
            boxes[frame] = (
                tuple(p + (q - p) * part for p, q in zip(a, b, strict=True)) if part else a
            )
    boxes[track[-1][0]] = track[-1][2]
    return boxes
