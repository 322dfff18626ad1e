"""What bench_gpu.py checks beside its times: that nothing waits for the GPU, how far bf16 and
TF32 turn the gradients, whether they choose other frames, and what evaluation takes a clip.
"""

import contextlib
from types import SimpleNamespace

import numpy as np
import torch

from claus import engine
from claus.benchmarks.gpu_sides import PIXELS, training_step, video
from claus.benchmarks.timing import median
from claus.engine import ScoreSettings, score_clips, score_video
from claus.losses.criterion import total_loss
from claus.models.mc_dropout import mc_forward
from claus.selection.uncertainty import SCORES
from claus.utils.markdown import table
from claus.utils.precision import Precision

WAYS = {  # of computing on a GPU
    "float32": Precision(amp=False),
    "TF32": Precision(amp=False, tf32=True),
    "bf16": Precision(amp=True),
}
PARTS = {  # of the network, by the beginnings of their parameters' names; the rest decodes
    "encoder": ("conv1.",),
    "capsules": ("primary_caps.", "conv_caps."),
}
SHARE = 0.05  # of the frames, which a cycle labels
RUNS = 24  # made-up videos that are scored to compare choices


# ------------------------------------------------------------------------------------ waits


def waits_table(bench):
    """Whether a training step and a scored tile wait for the GPU; a problem where one does."""
    step, batch = training_step(bench)
    trained, about, (item,) = video(bench)
    chunk = {name: values[:1] for name, values in item.items()}
    settings = ScoreSettings(passes=bench.settings.passes, amp=bench.cuda)

    def tile():
        bench.detector.eval()
        with torch.no_grad():
            score_clips(trained, about, chunk, settings, mc_forward)

    works = {"training step": lambda: step(batch), "scored tile": tile}
    rows = [[name, waits_of(bench, work)] for name, work in works.items()]
    for name, found in rows:
        if bench.cuda and found != "none":
            bench.problems.append(f"a {name} waits for the GPU: {found}")
    return table(["", "waits"], rows)


def waits_of(bench, work):
    """ "none", or PyTorch's words for the first wait inside a call."""
    work()
    bench.wait()
    if not bench.cuda:
        work()
        return "not looked for on a CPU"
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


# -------------------------------------------------------------------------------- gradients


def gradients_table(bench):
    """Cosine of the gradients by TF32 and bf16 to those by float32, on one batch, for each
    part of the network; and whether float32 gives the same bytes twice.
    """
    gradients = {name: gradients_of(bench, way) for name, way in WAYS.items()}
    exact, again = gradients["float32"], gradients_of(bench, WAYS["float32"])
    rows = []
    for way in ("TF32", "bf16"):
        found = gradients[way]
        cosines = [cosine(found[part], exact[part]) for part in exact]
        rows.append([way, *(f"{value:.4f}" for value in cosines)])
    same = all(torch.equal(again[part], exact[part]) for part in exact)
    said = "the same bytes" if same else "NOT the same bytes"
    head = ["gradients, cosine to float32's", *exact]
    return f"{table(head, rows)}\n\nThe same step twice in float32: {said}."


def gradients_of(bench, way):
    """{part: its gradient as one vector, float64}, training mode, fixed masks."""
    way.take(bench.device)
    detector, batch = bench.detector, bench.batches[0]
    engine.train_mode(detector)
    detector.zero_grad(set_to_none=True)
    masks = engine.dropout_masks(detector, 0, 0, len(batch["name"]))
    masks = [engine.moved(mask, bench.device) for mask in masks]
    given = engine.to_device(batch, bench.device, PIXELS)
    centers = bench.clusters().of(batch["name"], bench.device)
    with bench.autocast(way.amp):
        detection = engine.Forward(detector)(given["clip"], *masks)
    loss, _ = total_loss(detection, given, centers, bench.losses, 0.5)
    loss.backward()
    parts = {}
    for name, parameter in detector.named_parameters():
        if parameter.grad is not None:
            parts.setdefault(part_of(name), []).append(parameter.grad.flatten().double())
    detector.zero_grad(set_to_none=True)
    Precision().take(bench.device)
    return {part: torch.cat(parts[part]) for part in (*PARTS, "decoder")}


def part_of(name):
    for part, beginnings in PARTS.items():
        if name.startswith(beginnings):
            return part
    return "decoder"


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()).clamp(min=1e-300))


# -------------------------------------------------------------------------------- selection


def selection_table(bench):
    """Frame scores of made-up videos by TF32 and bf16 against float32: rank correlation, and
    how many of the best frames are the same.
    """
    scores = {name: scores_of(bench, way) for name, way in WAYS.items()}
    exact, rows = scores["float32"], []
    best = top(exact)
    for way in ("TF32", "bf16"):
        same = len(best & top(scores[way]))
        correlation = rank_correlation(scores[way], exact)
        rows.append([way, f"{correlation:.5f}", f"{same} of {len(best)}"])
    head = ["scores against float32's", "rank correlation", "same among the top frames"]
    note = "Made-up clips and untrained weights, whose frames hardly differ: a hard case."
    return f"{table(head, rows)}\n\n{note}"


def scores_of(bench, way):
    """The `paper` score of every tile's frames of RUNS made-up videos, one array."""
    way.take(bench.device)
    settings = ScoreSettings(passes=bench.settings.passes, amp=way.amp)
    found = []
    with bench.autocast(way.amp):  # on a CPU too, to prove the way through
        for number in range(2 if bench.settings.tiny else RUNS):
            trained, about, chunks = video(bench, seed=number)
            about = replace_name(about, f"made/{number}")
            bench.detector.eval()
            values = score_video(trained, about, chunks, settings)
            found.append(values[SCORES[0]][:: engine.STRIDE])
    Precision().take(bench.device)
    return np.concatenate(found)


def replace_name(about, name):
    return SimpleNamespace(**{**vars(about), "name": name})


def top(scores):
    """Places of the best SHARE of the scores; of equal ones the first."""
    count = max(round(SHARE * len(scores)), 1)
    return set(np.argsort(-scores, kind="stable")[:count].tolist())


def rank_correlation(a, b):
    """Spearman's, equal values in their order."""
    ranks = [np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


# ------------------------------------------------------------------------------- evaluation


def evaluation_rate(bench):
    """Milliseconds a clip of evaluate.py by both protocols, its frames in memory: the network
    and what the protocols make of its maps, of which each shows one region.
    """
    from claus.datasets.labels.annotations import Tube, Video
    from claus.metrics.detections import DetectionSettings
    from claus.steps import evaluate

    trained, about, (item,) = video(bench)
    count = len(item["clips"])
    frames = np.arange(16 * count)
    box = np.tile(np.array([[40, 30, 200, 180]], np.int32), (len(frames), 1))
    shown = Video(about.name, len(frames), 240, 320, 0, frames, (Tube(0, 0, frames, box),))
    numbers = 16 * np.arange(count)[:, None] + 2 * np.arange(8)
    chunk = {**item, "frames": numbers}
    view = evaluate.View(trained.geometry, trained.geometry)
    settings = SimpleNamespace(
        protocol="both",
        capsule=SimpleNamespace(gt="union"),
        act=DetectionSettings(),
        weights=None,
    )
    with one_region(bench.detector):
        times = bench.timed(
            {
                "evaluation": lambda: evaluate.score_video(
                    trained, shown, [chunk], view, settings
                )
            }
        )
    return 1000 * median(times, "evaluation") / count


@contextlib.contextmanager
def one_region(detector):
    """Inside, every map is all foreground: untrained maps would be thousands of specks."""
    with torch.no_grad():
        before = detector.smooth.bias.clone()
        detector.smooth.bias.add_(20)
    try:
        yield
    finally:
        with torch.no_grad():
            detector.smooth.bias.copy_(before)
