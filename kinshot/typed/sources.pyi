"""The parts of `kinshot.sources` for type checkers, written by `make api`."""

from kinshot.datasets.cars_196 import cars_196 as cars_196
from kinshot.datasets.cifar import cifar10 as cifar10
from kinshot.datasets.cifar import cifar100 as cifar100
from kinshot.datasets.coco_20i import coco_20i as coco_20i
from kinshot.datasets.cub_200_2011 import cub_200_2011 as cub_200_2011
from kinshot.datasets.digits import digits as digits
from kinshot.datasets.fashion_mnist import fashion_mnist as fashion_mnist
from kinshot.datasets.folder import folder as folder
from kinshot.datasets.fss_1000 import fss_1000 as fss_1000
from kinshot.datasets.glyph_scenes import glyph_scenes as glyph_scenes
from kinshot.datasets.glyphs import glyphs as glyphs
from kinshot.datasets.grocery_store import grocery_store as grocery_store
from kinshot.datasets.hapt import hapt as hapt
from kinshot.datasets.hetero_graph import hetero_graph as hetero_graph
from kinshot.datasets.in_shop import in_shop as in_shop
from kinshot.datasets.label_sets import label_sets as label_sets
from kinshot.datasets.lfw_pairs import lfw_pairs as lfw_pairs
from kinshot.datasets.manifold import manifold as manifold
from kinshot.datasets.market_1501 import market_1501 as market_1501
from kinshot.datasets.mask_folder import mask_folder as mask_folder
from kinshot.datasets.motion import motion as motion
from kinshot.datasets.omniglot import omniglot as omniglot
from kinshot.datasets.pascal_5i import pascal_5i as pascal_5i
from kinshot.datasets.photo_drawings import photo_drawings as photo_drawings
from kinshot.datasets.recordings import recordings as recordings
from kinshot.datasets.stanford_online_products import stanford_online_products as stanford_online_products
from kinshot.datasets.table import table as table
from kinshot.datasets.task_topology import task_topology as task_topology
from kinshot.datasets.uci_har import uci_har as uci_har

__all__ = [
    "cars_196",
    "cifar10",
    "cifar100",
    "coco_20i",
    "cub_200_2011",
    "digits",
    "fashion_mnist",
    "folder",
    "fss_1000",
    "glyph_scenes",
    "glyphs",
    "grocery_store",
    "hapt",
    "hetero_graph",
    "in_shop",
    "label_sets",
    "lfw_pairs",
    "manifold",
    "market_1501",
    "mask_folder",
    "motion",
    "omniglot",
    "pascal_5i",
    "photo_drawings",
    "recordings",
    "stanford_online_products",
    "table",
    "task_topology",
    "uci_har",
]
