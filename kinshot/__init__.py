"""kinshot: learn representations from relations, recognise new things from a few examples.

What this package shows is loaded when it is first used, so that `import kinshot` imports neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinshot.core.lazy import Declared, face

__version__ = "0.1.0"

if TYPE_CHECKING:  # every name that the package shows: docs/api.md says what each is
    from kinshot import augmenters as augmenters
    from kinshot import encoders as encoders
    from kinshot import graphs as graphs
    from kinshot import heads as heads
    from kinshot import kin as kin
    from kinshot import methods as methods
    from kinshot import metrics as metrics
    from kinshot import miners as miners
    from kinshot import objectives as objectives
    from kinshot import orders as orders
    from kinshot import segmenters as segmenters
    from kinshot import sklearn as sklearn
    from kinshot import sources as sources
    from kinshot import views as views
    from kinshot.core.context import RunContext as RunContext
    from kinshot.datasets.dataset_source import as_source as as_source
    from kinshot.datasets.torch_dataset import as_dataset as as_dataset
    from kinshot.encoders.build import build_encoder as build_encoder
    from kinshot.encoders.build import keyed_initialisation as keyed_initialisation
    from kinshot.exports.export import export as export
    from kinshot.fewshot.accuracy import few_shot_accuracy as few_shot_accuracy
    from kinshot.fewshot.base_statistics import base_statistics as base_statistics
    from kinshot.fewshot.episode_sampler import EpisodeSampler as EpisodeSampler
    from kinshot.fewshot.episodes import Episodes as Episodes
    from kinshot.fewshot.episodes import sample_episodes as sample_episodes
    from kinshot.fewshot.evaluate import build_head as build_head
    from kinshot.fewshot.evaluate import episode_accuracy as episode_accuracy
    from kinshot.index.building import build_index as build_index
    from kinshot.index.opened import open_index as open_index
    from kinshot.kin.graph.graph import RelationGraph as RelationGraph
    from kinshot.kin.neighbors.ranking import rank as rank
    from kinshot.kin.relation import Relation as Relation
    from kinshot.runs.load import load as load
    from kinshot.runs.teaching import enroll as enroll
    from kinshot.runs.teaching import forget as forget
    from kinshot.segmentation.dense import Dense as Dense
    from kinshot.segmentation.segmenter import build_segmenter as build_segmenter
    from kinshot.ssl.interclr.memory import ClusterMemory as ClusterMemory

face(__name__, Declared(__name__, __file__))
