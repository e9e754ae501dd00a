"""The two axes of channel information in trained networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from theory.shared.lazy import on_first_use

if TYPE_CHECKING:
    from empirical.analysis.comparing import compare
    from empirical.analysis.comparison import Comparison
    from empirical.analysis.matching import Matching, match_channels
    from empirical.data.images import ImageSet, image_loader
    from empirical.data.loading import load_data
    from empirical.data.splits import split_data
    from empirical.lesions.heads import HeadDamage, lesion_heads
    from empirical.lesions.lesioning import lesion
    from empirical.lesions.replacement import replace
    from empirical.lesions.replacement_table import ReplacementTable
    from empirical.lesions.table import LesionTable, merge_lesions
    from empirical.measuring.damage_law import damage
    from empirical.measuring.damage_of_heads import HeadDamageTable, damage_heads
    from empirical.measuring.damage_table import DamageTable
    from empirical.measuring.estimation import merge_tables
    from empirical.measuring.gradients import gradient_cosines
    from empirical.measuring.heads import HeadTable, measure_heads
    from empirical.measuring.measurement import measure
    from empirical.measuring.recorded import from_activations
    from empirical.measuring.table import AxisTable
    from empirical.models import ModelSpec, create_model
    from empirical.pruning.calibration import Calibration
    from empirical.pruning.comparison import Factorial, run_factorial
    from empirical.pruning.criteria import criterion_names, register_criterion
    from empirical.pruning.distillation import Distillation
    from empirical.pruning.export import export_onnx, export_program
    from empirical.pruning.forecasting import Forecast, forecast
    from empirical.pruning.heads import PrunedHeads, prune_heads
    from empirical.pruning.importance import Importance
    from empirical.pruning.latency import latencies
    from empirical.pruning.pruned_file import load_pruned, save_pruned
    from empirical.pruning.pruner import prune
    from empirical.pruning.pruning_report import PrunedModel, PruningReport
    from empirical.pruning.structures import compare_structures
    from empirical.pruning.what_if import RemovalPlan, removal_plan
    from empirical.reading.hooks import capture, edit
    from empirical.reading.layers import Layer, find_layers
    from empirical.reading.networks import Adapter
    from empirical.report.card import ChannelCard, explain
    from empirical.report.map_page import write_map
    from empirical.runs.pipeline import run
    from empirical.training.checkpoints import load_model, load_weights
    from empirical.training.evaluation import evaluate
    from empirical.training.recipes import Recipe
    from empirical.training.trainer import train

__all__ = [
    "Adapter",
    "AxisTable",
    "Calibration",
    "ChannelCard",
    "Comparison",
    "DamageTable",
    "Distillation",
    "Factorial",
    "Forecast",
    "HeadDamage",
    "HeadDamageTable",
    "HeadTable",
    "ImageSet",
    "Importance",
    "Layer",
    "LesionTable",
    "Matching",
    "ModelSpec",
    "PrunedHeads",
    "PrunedModel",
    "PruningReport",
    "Recipe",
    "RemovalPlan",
    "ReplacementTable",
    "capture",
    "compare",
    "compare_structures",
    "create_model",
    "criterion_names",
    "damage",
    "damage_heads",
    "edit",
    "evaluate",
    "explain",
    "export_onnx",
    "export_program",
    "find_layers",
    "forecast",
    "from_activations",
    "gradient_cosines",
    "image_loader",
    "latencies",
    "lesion",
    "lesion_heads",
    "load_data",
    "load_model",
    "load_pruned",
    "load_weights",
    "match_channels",
    "measure",
    "measure_heads",
    "merge_lesions",
    "merge_tables",
    "prune",
    "prune_heads",
    "register_criterion",
    "removal_plan",
    "replace",
    "run",
    "run_factorial",
    "save_pruned",
    "split_data",
    "train",
    "write_map",
]

__getattr__, __dir__ = on_first_use(__name__)
