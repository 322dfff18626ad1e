"""S3D against torchvision's own, and its weights by name."""

import hashlib
from pathlib import Path

import pytest
import torch
from torchvision.models.video import S3D_Weights, s3d

from claus.artifacts import checkpoint
from claus.models import BACKBONES
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.s3d import DEVIATION, FINE, MEAN, S3D
from claus.utils.runtime import UserError


@pytest.fixture(scope="module")
def theirs():
    """torchvision's whole network, with batch norms that do something."""
    torch.manual_seed(0)
    network = s3d(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def test_a_made_up_file_of_torchvisions_shape_loads_by_name(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "s3d.pth")
    detector = Detector(DetectorConfig(3, **PRESETS["s3d"])).eval()
    matched, missing, ignored = checkpoint.load_pretrained(detector, tmp_path / "s3d.pth")
    own = [n for n in detector.conv1.state_dict() if not n.endswith("num_batches_tracked")]
    assert matched == len(own) > 200
    assert missing == len(
        [n for n in detector.state_dict() if not n.startswith("conv1.") and "num_b" not in n]
    )
    assert ignored > 0  # later blocks and the classifier
    clip = torch.rand(1, 3, 8, 32, 32) * 2 - 1
    seen = (clip / 2 + 0.5 - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(
        DEVIATION
    ).view(3, 1, 1, 1)
    with torch.no_grad():
        _, _, fine = detector.conv1(clip)
        expected = theirs.features[: FINE + 1](seen)
    torch.testing.assert_close(fine, expected, rtol=1e-4, atol=1e-5)


def test_strides_are_the_tables_and_the_rest_is_torchvisions(theirs):
    """With its two strides put back every block gives what torchvision's gives."""
    encoder = S3D().eval()
    encoder.load_state_dict(
        {k: v for k, v in theirs.state_dict().items() if k in encoder.state_dict()}
    )
    clip = torch.rand(1, 3, 8, 64, 64) * 2 - 1
    backbone = BACKBONES["s3d"]
    with torch.no_grad():
        shapes = [tuple(x.shape) for x in encoder(clip)]
        columns = backbone.channels, backbone.temporal_strides, backbone.spatial_strides
        assert shapes == [
            (1, c, 8 // t, 64 // s, 64 // s) for c, t, s in zip(*columns, strict=True)
        ]
        encoder.features[3][1][0].stride = (1, 1, 1)
        encoder.features[7].stride = (2, 2, 2)
        seen = clip * encoder.scale + encoder.shift
        expected = theirs.features[:13](seen)
        torch.testing.assert_close(encoder(clip)[0], expected, rtol=1e-4, atol=1e-5)


def test_numbers_are_those_of_torchvisions_weights():
    weights = S3D_Weights.KINETICS400_V1
    assert weights.url == BACKBONES["s3d"].download
    transforms = weights.transforms()
    assert (tuple(transforms.mean), tuple(transforms.std)) == (MEAN, DEVIATION)


def test_the_file_is_fetched_and_checked(tmp_path, monkeypatch):
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()[:8]
    source = tmp_path / f"made-{digest}.pth"
    source.write_bytes(content)
    checkpoint.download(source.as_uri(), tmp_path / "here.pth")
    assert (tmp_path / "here.pth").read_bytes() == content
    source.write_bytes(b"tampered")
    with pytest.raises(UserError, match="cannot be fetched .*put it at .*other.pth"):
        checkpoint.download(source.as_uri(), tmp_path / "other.pth")
    assert not (tmp_path / "other.pth").exists()
    with pytest.raises(UserError, match="--pretrained none"):
        checkpoint.download(Path(tmp_path / "none-0.pth").as_uri(), tmp_path / "other.pth")
