"""reference/claus.py runs, and agrees with the product where both compute the same."""

import numpy as np
import pytest
import torch

from claus.datasets.labels.annotations import Tube, Video
from claus.datasets.labels.pseudo_labels import clip_weight, pseudo_masks
from claus.losses import cluster as product_clusters
from claus.losses.margin import margin_loss
from claus.losses.stew import stew_loss
from claus.reference import claus as plain
from claus.reference.network import ConvCaps
from claus.selection.budget import Budget
from claus.selection.claus import select_claus
from claus.selection.clusters import cluster_quotas
from claus.selection.uncertainty import frame_scores


@pytest.mark.parametrize("seed", range(8))
def test_it_selects_what_the_product_selects(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 25)
    scores = {v: rng.integers(0, 6, n).astype(float) for v, n in enumerate(lengths)}
    clusters = rng.integers(0, plain.K, len(lengths))
    b_v = int(rng.integers(1, 12))
    b_f = int(rng.integers(b_v, 60))
    mine = plain.select(scores, dict(enumerate(clusters)), b_v, b_f)
    flat = np.concatenate(list(scores.values()))
    product = select_claus(
        flat,
        np.concatenate([[0], np.cumsum(lengths)]),
        clusters,
        plain.K,
        Budget(b_v, b_f),
        candidates_N=np.ones(len(lengths), bool),
        ranked_last=flat == 0,
    )
    assert list(mine) == product.videos.tolist()
    for frames, theirs in zip(mine.values(), product.frames, strict=True):
        assert frames == theirs.tolist()


def test_quotas_are_those_of_the_product():
    rng = np.random.default_rng(0)
    for _ in range(100):
        sizes = rng.integers(0, 20, 5)
        count = int(rng.integers(0, sizes.sum() + 1)) if sizes.sum() else 0
        if sizes.sum():
            assert plain.quotas(sizes.tolist(), count) == cluster_quotas(sizes, count).tolist()


def test_uncertainty_is_that_of_the_product():
    logits = 3 * torch.randn(10, 8, 12, 12)
    product = frame_scores(logits)["paper"]
    torch.testing.assert_close(plain.uncertainty(logits), product)
    assert product.min() > 0


def test_pseudo_labels_and_weights_are_those_of_the_product():
    labels = {4: (3, 5, 20, 22), 11: None, 18: (10, 2, 30, 19), 25: (1, 1, 12, 40)}
    shown = {f: box for f, box in labels.items() if box is not None}
    tube = Tube(0, 0, np.array(list(shown)), np.array(list(shown.values())))
    video = Video("v", 40, plain.S, plain.S, 0, np.array(list(labels)), [tube])
    for first in range(0, 24):
        frames = [first + 2 * t for t in range(8)]
        masks = torch.stack([plain.mask_of(plain.box_at(labels, f)) for f in frames])
        product = pseudo_masks(video, np.array(frames))
        np.testing.assert_array_equal(masks.numpy(), product)
        weights = plain.stew_weights(masks, frames, list(labels))
        wanted = clip_weight(product, video.labeled_frames, np.array(frames))
        np.testing.assert_allclose(weights.numpy(), wanted, rtol=1e-6)


def test_losses_are_those_of_the_product():
    torch.manual_seed(0)
    logits = torch.randn(3, 8, 10, 10)
    target = (torch.rand(3, 8, 10, 10) < 0.3).float()
    weight = torch.rand(3, 8, 10, 10) * (torch.rand(3, 8, 1, 1) < 0.6)
    product = stew_loss(logits, target, weight)
    torch.testing.assert_close(plain.stew_loss(logits, target, weight), product)

    scores, label = torch.rand(3, 5), torch.tensor([0, 4, 2])
    for counted in ([True, False, True], [False] * 3):
        counted = torch.tensor(counted)
        wanted = margin_loss(scores, label, 0.5, counted)
        torch.testing.assert_close(plain.margin_loss(scores, label, 0.5, counted), wanted)

    latent, center = torch.randn(3, 51), torch.randn(3, 51)
    wanted = product_clusters.cluster_loss(latent, center, plain.LAMBDA)
    torch.testing.assert_close(plain.cluster_loss(latent, center), wanted)


def test_clusters_move_and_are_reassigned_as_in_the_product():
    torch.manual_seed(0)
    tiles = {v: torch.randn(3, 6) + 2 * (v % 3) for v in range(7)}
    mine = plain.Clusters(tiles)
    product = product_clusters.Clusters.fit(tiles, plain.K, 0)
    torch.testing.assert_close(mine.centers, product.centers)
    assert mine.cluster == product.assignment
    for epoch in range(3):
        for _ in range(4):
            videos = torch.randint(0, 7, (5,)).tolist()
            latent = torch.randn(5, 6) + 3 * epoch
            mine.follow(videos, latent)
            product.follow(videos, latent)
        mine.reassign()
        product.reassign()
        torch.testing.assert_close(mine.centers, product.centers)
        assert mine.cluster == product.assignment


@pytest.mark.parametrize("crowded", [False, True])
def test_the_pool_is_assigned_to_the_same_centers_as_in_the_product(crowded):
    torch.manual_seed(0)
    tiles = {v: torch.randn(3, 6) + 2 * (v % 3) for v in range(7)}
    mine = plain.Clusters(tiles)
    product = product_clusters.Clusters.fit(tiles, plain.K, 0)
    if crowded:  # four clusters lose their videos
        mine.cluster = {v: 0 for v in tiles}
        product.assignment = dict(mine.cluster)
    others = {v: torch.randn(2, 6) for v in tiles}
    mine.without_dropout(others)
    wanted = product.pool_centers({v: x.numpy() for v, x in others.items()})
    np.testing.assert_allclose(mine.centers.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_routing_is_that_of_the_plain_network():
    net = plain.Detector()
    layer = ConvCaps(*net.weights.shape[:2])
    layer.load_state_dict(
        {"weights": net.weights[None], "beta_u": net.beta_u, "beta_a": net.beta_a}
    )
    pose, activation = torch.randn(2, 3, 3, 8, 4, 4), torch.rand(2, 3, 3, 8)
    mu, a = net.route(pose.flatten(0, 2), activation.flatten(0, 2))
    wanted_mu, wanted_a = layer(pose, activation)
    torch.testing.assert_close(mu, wanted_mu.flatten(0, 2))
    torch.testing.assert_close(a, wanted_a.flatten(0, 2))


def test_mc_dropout_differs_by_pass_and_leaves_batch_norm_alone():
    net = plain.Detector()
    video = plain.make_video(np.random.default_rng(0), 0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    logits, _, latents = plain.predict(net, video, passes=3)
    assert logits.shape == (3, len(video), plain.S, plain.S)
    assert latents.shape == (-(-len(video) // 16), 17 * len(plain.CLASSES))
    assert not torch.equal(logits[0], logits[1])
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_two_cycles_run_and_spend_the_budget(capsys):
    rows = plain.main(train_videos=15, test_videos=3, cycles=2, steps=4, passes=2)
    assert [row[1] for row in rows] == [3, 6, 9]
    frames = [row[2] for row in rows]
    assert frames[2] - frames[1] == frames[1] - frames[0] > 3
    assert len(capsys.readouterr().out.splitlines()) == 4
