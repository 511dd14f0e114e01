"""The parts of `kinshot.encoders` for type checkers, written by `make api`."""

from kinshot.encoders.auto import auto as auto
from kinshot.encoders.conv4 import Conv4 as conv4
from kinshot.encoders.conv_gru import ConvGRU as conv_gru
from kinshot.encoders.dense_cnn import DenseCNN as dense_cnn
from kinshot.encoders.efficientnet_lite0 import EfficientNetLite0 as efficientnet_lite0
from kinshot.encoders.frame_encoder import FrameEncoder as frame_encoder
from kinshot.encoders.fused_bundle import FusedBundle as fused
from kinshot.encoders.meta_path import MetaPathEncoder as meta_path
from kinshot.encoders.mlp import MLP as mlp
from kinshot.encoders.onnx_encoder import OnnxEncoder as onnx
from kinshot.encoders.patch_transformer import PatchTransformer as patch_transformer
from kinshot.encoders.pooled import Pooled as pooled
from kinshot.encoders.resnet12 import ResNet12 as resnet12
from kinshot.encoders.series_cnn import SeriesCNN as series_cnn
from kinshot.encoders.series_resnet import SeriesResNet as series_resnet
from kinshot.encoders.tcn import TCN as tcn
from kinshot.encoders.text_transformer import TextTransformer as text
from kinshot.encoders.timm_adapter import TimmEncoder as timm
from kinshot.encoders.torchvision_model import TorchvisionModel as torchvision
from kinshot.encoders.torchvision_resnet import ResNet18 as resnet18
from kinshot.encoders.torchvision_resnet import ResNet50 as resnet50

__all__ = [
    "auto",
    "conv4",
    "conv_gru",
    "dense_cnn",
    "efficientnet_lite0",
    "frame_encoder",
    "fused",
    "meta_path",
    "mlp",
    "onnx",
    "patch_transformer",
    "pooled",
    "resnet12",
    "resnet18",
    "resnet50",
    "series_cnn",
    "series_resnet",
    "tcn",
    "text",
    "timm",
    "torchvision",
]
