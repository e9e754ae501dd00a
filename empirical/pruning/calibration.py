"""What pruning needs to know about a dense network, each thing computed once, when first asked.

A `Calibration` serves every criterion, allocation and recovery of one network: the trace, the
two axes, the second moments at the layers' inputs, gradients and feature maps. It reads
calibration images only; accuracies are reported on other images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from empirical.data.images import ImageSet
from empirical.devices import chosen_device, placed
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from empirical.measuring.targets import TargetFunction, target_function
from empirical.pruning.allocation import Budget
from empirical.pruning.budgets import LatencyBudget, LayerTimes, ParameterBudget
from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.criteria import criterion_of, scores
from empirical.pruning.criteria_compensated import damage_curve
from empirical.pruning.criteria_gradients import Gradient, loss_gradients
from empirical.pruning.criteria_maps import average_rank, channel_independence, map_scores
from empirical.pruning.criterion import Score, Scores
from empirical.pruning.distillation import DISTILLATION, Distillation
from empirical.pruning.holding_out import EVERY, Fold
from empirical.pruning.input_moments import InputMoments, input_moments
from empirical.pruning.layer_times import MeasuredTimes
from empirical.pruning.measured_damage import measured_curves
from empirical.pruning.output_fisher import output_fisher
from empirical.pruning.patch_moments import PatchMoments, patch_moments
from empirical.pruning.pulled import Key, Products, pulled_products
from empirical.pruning.reconstruction import References, references
from empirical.pruning.recovery import FINE_TUNING
from empirical.pruning.removal import Choice
from empirical.pruning.sensitivity import loss_by_share
from empirical.pruning.sorted_images import warn_if_one_class, warn_if_sorted
from empirical.pruning.tracing import trace_channels
from empirical.reading.batches import Batch, batches, joined, leading
from empirical.reading.networks import Adapter, opened
from empirical.reading.repeated import FirstBatches, repeated
from empirical.seeding import checked_seed
from empirical.training.recipes import Recipe
from theory import ChannelAxes, channel_axes
from theory.shared.validation import count, instance, truth


@dataclass(eq=False, repr=False)
class Calibration:
    """A dense network with its calibration images.

    Parameters
    ----------
    model : any `nn.Module` from images to logits; it is never changed.
    loader : a re-iterable of (images, labels), training images that no report uses, in random
        order: gradients and feature maps read the first ones, batch norms go by batch. One that
        shuffles is read in the order of its first pass each time.
    target : T of the target axis, as in `measure`.
    batch_limit : use at most so many batches of the loader; all by default.
    gradient_images, map_images, refit_images : for Taylor and Hessian; for HRank and CHIP; that
        recovery "reconstruct" refits the layers on.
    distillation : how recovery "distill" trains, on all images.
    training : images that the recoveries with fine-tuning train on, by `recipe`.
    skip : layers, stages or patterns to keep whole. coupled: False keeps residual streams too.
    seed : of the spatial positions that are sampled.
    device : where to compute; by default where the model's parameters are.
    adapt : an `Adapter`, where batches are not pairs or the model returns more than its logits.
    times : seconds of every layer by its widths, for `latency`; measured on 16 images by default.

    Labels that are no class numbers are taken wherever none are read: they matter to gradients,
    to the sensitivity allocation and to targets by name.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> loader = [(torch.randn(8, 1, 4, 4), torch.tensor([0, 1] * 4))]
    >>> Calibration(net, loader).graph.macs()
    176
    """

    model: nn.Module
    loader: Iterable[object]
    _: KW_ONLY
    target: str | TargetFunction = "logit_margin"
    batch_limit: InitVar[int | None] = None
    gradient_images: int = 256
    map_images: int = 64
    refit_images: int = 1000
    distillation: Distillation = DISTILLATION
    training: ImageSet | None = None
    recipe: Recipe = FINE_TUNING
    skip: Sequence[str] = ()
    coupled: bool = True
    seed: int = 0
    device: torch.device | str | None = None
    adapt: Adapter | None = None
    times: LayerTimes | None = None

    def __post_init__(self, batch_limit: int | None) -> None:
        self.given = self.model
        self.model = opened(self.model, self.adapt)
        own = self.loader if self.adapt is None else self.adapt.loader(self.loader)
        self.loader = repeated(own)
        if batch_limit is not None:
            self.loader = FirstBatches(self.loader, count("batch_limit", batch_limit))
        target_function(self.target)
        truth("coupled", self.coupled)
        checked_seed("seed", self.seed)
        instance("recipe", self.recipe, Recipe, "Pass Recipe(epochs=...).")
        instance("distillation", self.distillation, Distillation, "Pass Distillation(epochs=...).")
        instance("skip", self.skip, (list, tuple), "Pass a list of layers' names, as ['fc'].")
        if self.training is not None:
            instance("training", self.training, ImageSet, "Pass what load_data returns.")
        for name in ("gradient_images", "map_images", "refit_images"):
            count(name, getattr(self, name))
        self.device = (
            placed(self.model, None) if self.device is None else chosen_device(self.device)
        )
        self._order_judged = False
        self._refused: dict[str, str] = {}
        self.sound: set[Choice] = set()  # that were tried
        self.judged: dict[tuple[Choice, str, str], float] = {}  # by recovery and path
        self._splits: dict[int, tuple[Calibration, Fold]] = {}
        self._whole: Calibration | None = None
        self._scores: dict[tuple[str | Score, int], dict[str, Scores]] = {}
        self._curves: dict[tuple[str | Score, int, bool], dict[str, Scores]] = {}

    def batches(self) -> Iterator[Batch]:
        """Checked calibration batches on the device; their labels may be of any form."""
        read = []
        for batch in batches(self.loader, self.device, classes=False):
            if batch.largest_label is not None:
                read.append(batch.labels)
            yield batch
        if read and not self._order_judged:
            self._order_judged = True
            warn_if_sorted(torch.cat(read))

    @cached_property
    def example(self) -> Tensor:
        """One image, (1, ...)."""
        first = next(self.batches())
        if first.largest_label is not None:
            warn_if_one_class(first.labels)
        return first.images[:1]

    @cached_property
    def batch(self) -> Tensor:
        """The first images, at most 16."""
        return next(self.batches()).images[:16]

    @cached_property
    def graph(self) -> ChannelGraph:
        """The removable channel groups."""
        skip, coupled, refused = self.skip, self.coupled, self._refused
        return trace_channels(self.model, self.batch, skip=skip, coupled=coupled, refused=refused)

    def keeping(
        self, skip: Sequence[str] = (), refused: Mapping[str, str] | None = None
    ) -> Calibration:
        """The same measurements for fewer groups: `skip`, or `refused` for a reason, stay whole."""
        other = copy.copy(self)
        other.skip = (*self.skip, *skip)
        other._refused = self._refused | dict(refused or {})
        other._scores, other._curves, other.sound, other.judged = {}, {}, set(), {}
        other.__dict__.pop("graph", None)
        splits = self._splits.items()
        other._splits = {n: (fitted.keeping(skip, refused), held) for n, (fitted, held) in splits}
        return other

    def on(self, loader: Iterable[object]) -> Calibration:
        """The same network and its trace, to be measured on other images."""
        other = copy.copy(self)
        other.loader = loader
        other._scores, other._curves, other._splits, other.judged = {}, {}, {}, {}
        for name in set(other.__dict__) & MEASURED:
            del other.__dict__[name]
        return other

    def held_out(self, every: int = EVERY) -> tuple[Calibration, Fold]:
        """A calibration without one image of `every`, measured anew, and these, to verify it.

        Raises ValueError where there are fewer.
        """
        if every not in self._splits:
            held, others = (Fold(self.batches, held, every) for held in (True, False))
            if not held:
                raise ValueError(
                    f"loader must leave at least {every} calibration images to fit on, since one "
                    f"of {every} is held out to verify. Give more images."
                )
            self._splits[every] = self.on(others), held
        self._splits[every][0]._whole = self
        return self._splits[every]

    @cached_property
    def table(self) -> AxisTable:
        """Both axes and the moments of every layer that produces channels, without the hulls."""
        return measure(
            self.model, self.loader, target=self.target, layers=self.graph.producers, groups=1,
            standard_errors=False, hull=False, seed=self.seed, device=self.device,
        )  # fmt: skip

    @property
    def axes(self) -> Mapping[str, ChannelAxes]:
        """Every quantity of the two axes but those of the hull, by producing layer."""
        return self.table.axes

    @cached_property
    def hulls(self) -> Mapping[str, ChannelAxes]:
        """The same with the hulls, a greedy search that wide layers take long for."""
        return {name: channel_axes(moments) for name, moments in self.table.moments.items()}

    @cached_property
    def input_moments(self) -> dict[tuple[str, str], InputMoments]:
        """Moments of each group's units at the input of each layer that reads them."""
        return input_moments(self.model, self.graph, self.batches(), seed=self.seed)

    @cached_property
    def patch_moments(self) -> dict[tuple[str, str], PatchMoments]:
        """The same at all taps of these layers' kernels."""
        return patch_moments(self.model, self.graph, self.batches(), seed=self.seed)

    @cached_property
    def output_fisher(self) -> Mapping[str, Scores]:
        """How much the prediction minds changes of what each reading layer computes."""
        readers = {m.module: None for group in self.graph.groups for m in group.consumers}
        return output_fisher(self.model, list(readers), self.batches(), seed=self.seed)

    @cached_property
    def pulled_products(self) -> Mapping[Key, list[Products]]:
        """What the units of each group do to the prediction at each layer that reads them."""
        return pulled_products(
            self.model, self.graph, self.input_moments, self.batches(), seed=self.seed
        )

    @cached_property
    def images(self) -> Tensor:
        """The first `refit_images` images, (n, ...)."""
        return joined(leading(self.batches(), self.refit_images))

    @cached_property
    def references(self) -> References:
        """What every dense layer computes on `images`, at random positions."""
        stream = leading(self.batches(), self.refit_images)
        return references(self.model, stream, seed=self.seed)

    @cached_property
    def mean_gradients(self) -> dict[str, Tensor]:
        """Gradient of the mean loss by every parameter."""
        return self._gradients(self.gradient_images, "mean")

    @cached_property
    def squared_gradients(self) -> dict[str, Tensor]:
        """Mean over images of every parameter's squared gradient."""
        return self._gradients(max(1, self.gradient_images // 4), "square")

    def _gradients(self, images: int, kind: Gradient) -> dict[str, Tensor]:
        labelled = batches(self.batches())  # which checks that labels are class numbers
        return loss_gradients(self.model, labelled, images, kind)

    @cached_property
    def map_ranks(self) -> dict[str, Scores]:
        """HRank of every producer's channels."""
        return self._map_scores(average_rank, self.map_images)

    @cached_property
    def map_independence(self) -> dict[str, Scores]:
        """CHIP's channel independence of every producer's channels."""
        return self._map_scores(channel_independence, max(1, self.map_images // 4))

    def _map_scores(self, score: Callable[[Tensor], Tensor], images: int) -> dict[str, Scores]:
        names, example = self.graph.producers, self.example
        return map_scores(self.model, names, example, self.batches(), images, score)

    @cached_property
    def sensitivity(self) -> dict[str, list[tuple[float, float]]]:
        """Loss increase when one group alone keeps a share of its units; pairs per group.

        Units go by the norm of their filters, without recovery, whatever the criterion: the
        sensitivity allocation gives all criteria the same counts.
        """
        return loss_by_share(self.model, self.graph, self.batches())

    def scores(self, criterion: str | Score, *, seed: int = 0) -> dict[str, Scores]:
        """Scores of every group's units, computed once per criterion and, if it draws, seed."""
        key = (criterion, seed if criterion_of(criterion).stochastic else 0)
        if key not in self._scores:
            self._scores[key] = scores(self, criterion, seed=seed)
        return self._scores[key]

    def damage_curves(
        self, criterion: str | Score, *, seed: int = 0, measured: bool = False
    ) -> dict[str, Scores]:
        """Predicted loss increase of every group by units kept, in nats; see `damage_curve`.

        `measured` ones are set right by what each group costs alone; see `measured_curves`.
        """
        key = (criterion, seed if criterion_of(criterion).stochastic else 0, measured)
        if key not in self._curves:
            found = self.scores(criterion, seed=seed)
            self._curves[key] = (
                measured_curves(self, found, self.damage_curves(criterion, seed=seed))
                if measured
                else {g.name: damage_curve(self, g, found[g.name]) for g in self.graph.groups}
            )
        return self._curves[key]

    @property
    def layer_times(self) -> LayerTimes:
        """`times`, measured on the first images where none are given; of a part, the whole's."""
        if self._whole is not None:
            return self._whole.layer_times
        if self.times is None:
            self.times = MeasuredTimes.of(self.model, self.graph, self.batch)
        instance("times", self.times, LayerTimes, "Pass MeasuredTimes.of(...).")
        return self.times

    def budget(self, resource: str) -> Budget:
        """What counts of units cost of "macs", "parameters" or "latency"."""
        if resource == "latency":
            return LatencyBudget(self.graph, self.layer_times)
        return self.graph if resource == "macs" else ParameterBudget.of(self.graph, self.model)


MEASURED = {n for n, v in vars(Calibration).items() if isinstance(v, cached_property)}
MEASURED -= {"graph"}
"""What depends on the images."""


def calibrated(
    model: nn.Module,
    loader: Iterable[object] | Calibration,
    *,
    skip: Sequence[str] = (),
    adapt: Adapter | None = None,
) -> Calibration:
    """The `Calibration` that `loader` is, or one of `model` on its batches; `skip` stays whole."""
    if not isinstance(loader, Calibration):
        return Calibration(model, loader, skip=skip, adapt=adapt)
    if adapt is not None:
        raise ValueError("adapt must be given to the Calibration; it and this call both got one.")
    if loader.given is not model and loader.model is not model:
        raise ValueError("loader is a Calibration of another model. Calibrate this one.")
    return loader.keeping(skip) if skip else loader
