"""Metrics of a whole part of the data, in addition to its mean loss, chosen by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

OF_CLASSES = ("accuracy", "precision", "recall", "f1", "auroc", "confusion")
OF_NUMBERS = ("mse", "mae", "r2")
OF_TEXT = ("bits_per_byte",)
CELLS_UP_TO = 10  # most classes of a confusion matrix, because each of its cells is a metric


class TargetScores(NamedTuple):
    """What accuracy and bits per byte need of each target.

    Attributes:
        nats_B: -log p of the target, in nats.
        right_B: Whether the target has the largest output.
    """

    nats_B: Tensor
    right_B: Tensor


@dataclass(frozen=True)
class Measures:
    """A function (output, target) of a whole part -> {name: value}. It is a `Problem.metrics`.

    Targets that are classes (the last dimension of the output, all positions of a sequence together):

    - accuracy.
    - precision, recall, f1: the mean over the classes that occur in the targets. A class that is never predicted
      counts 0.
    - auroc: the area under the ROC curve. With two classes it is that of class 1. With more it is the mean over the
      classes that occur, each against the rest. NaN if all targets have the same class, or an output is not finite.
    - confusion: the number of examples of class i that were predicted as class j, as "confusion/i/j".

    Targets that are numbers, all columns together: mse, mae, and r2, the fraction of the variance that is explained.

    Text: bits_per_byte, the sum of -log2 p divided by the number of bytes of the targets.

    Attributes:
        names: Names of the metrics.
        unit: Factor that converts errors to the unit of the metrics, or one of each column of the targets.
        bytes_V: Number of bytes of each symbol, int64 [V]. None if each symbol is one byte.
    """

    names: tuple[str, ...]
    unit: float | Tensor = 1.0
    bytes_V: Tensor | None = None

    def kept(self, output_B: Any, target_B: Tensor) -> Any:
        """Return what the metrics need of a batch's output: of text, two numbers for each symbol."""
        return score_targets(output_B, target_B) if self._is_of_text() else output_B

    def __call__(self, output: Any, target: Tensor) -> dict[str, float]:
        """Return the metrics.

        Args:
            output: Of the whole part, or what `kept` returned for its batches.
            target: Of the whole part.
        """
        if self._is_of_text():
            scores = output if isinstance(output, TargetScores) else score_targets(output, target)
            return self._measure_text(scores, target)
        measure = self._measure_numbers if target.is_floating_point() else self._measure_classes
        value_of = measure(output, target)
        return {name: value for name, value in value_of.items() if name.partition("/")[0] in self.names}

    def _is_of_text(self) -> bool:
        return "bits_per_byte" in self.names and set(self.names) <= {"accuracy", "bits_per_byte"}

    def _measure_text(self, output: TargetScores, target: Tensor) -> dict[str, float]:
        value_of = {
            "accuracy": output.right_B.double().mean().item(),
            "bits_per_byte": bits_per_byte(output.nats_B, target, self.bytes_V),
        }
        return {name: value_of[name] for name in self.names}

    def _measure_numbers(self, output: Tensor, target: Tensor) -> dict[str, float]:
        unit, output, target = self.unit, reshape_like(output, target).double(), target.double()
        if isinstance(unit, Tensor):
            unit_C = unit.to(target.device, torch.float64)
            unit, output, target = 1.0, output * unit_C, target * unit_C
        value_of = errors(output, target)
        mse = (output - target).square().mean().item() * unit**2
        return {"mse": mse, "mae": value_of["mae"] * unit, "r2": value_of["r2"]}

    def _measure_classes(self, output: Tensor, target: Tensor) -> dict[str, float]:
        scores, labels = output.detach().flatten(0, -2), target.flatten()
        value_of: dict[str, float] = {}
        if "accuracy" in self.names:
            value_of |= accuracy(scores, labels)
        if {"precision", "recall", "f1"} & set(self.names):
            value_of |= _class_averages(scores, labels)
        if "auroc" in self.names:
            value_of["auroc"] = auroc(scores, labels)
        if "confusion" in self.names:
            value_of |= _confusion_cells(scores, labels)
        if "bits_per_byte" in self.names:
            value_of["bits_per_byte"] = bits_per_byte(score_targets(scores, labels).nats_B, labels, self.bytes_V)
        return value_of


def build_measures(names: Sequence[str], target: Tensor, classes: int, **options: Any) -> Measures:
    """Return the metrics of these names.

    Args:
        names: Names of metrics.
        target: Some targets. Their type decides between classes and numbers.
        classes: Number of classes.
        options: `unit` and `bytes_V` of `Measures`.

    Raises:
        ValueError: If a name is unknown, or does not fit the targets.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"task.metrics={names}: not a list of names. Write [accuracy, f1]")
    of_text = OF_TEXT if options.get("bytes_V") is not None or classes == 256 else ()
    known = OF_NUMBERS if target.is_floating_point() else (*OF_CLASSES, *of_text)
    for name in names:
        if name not in known:
            kind = "numbers" if target.is_floating_point() else "classes"
            raise ValueError(
                f"task.metrics={name}: targets that are {kind} have no such metric. Choose from {', '.join(known)}"
            )
    if "confusion" in names and classes > CELLS_UP_TO:
        raise ValueError(
            f"task.metrics=confusion: {classes} classes would be {classes**2} metrics. Leave it out, or call "
            "sklearn.metrics.confusion_matrix with the final model"
        )
    return Measures(tuple(names), **options)


# --- classes ----------------------------------------------------------------------------------------


def accuracy(output: Tensor, target: Tensor) -> dict[str, float]:
    """Return the fraction of targets whose class has the largest output."""
    return {"accuracy": (output.argmax(-1) == target).double().mean().item()}


def _class_averages(scores_NC: Tensor, label_N: Tensor) -> dict[str, float]:
    import numpy as np
    from sklearn.metrics import precision_recall_fscore_support

    label, predicted = label_N.cpu().numpy(), scores_NC.argmax(-1).cpu().numpy()
    precision, recall, f1, _ = precision_recall_fscore_support(
        label, predicted, labels=np.unique(label), average="macro", zero_division=0.0
    )
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def auroc(scores_NC: Tensor, label_N: Tensor) -> float:
    """Return the area under the ROC curve, for all classes in one pass.

    It is the U statistic of Mann and Whitney, from the ranks of the scores, where equal scores share their rank. It
    equals scikit-learn's roc_auc_score, which takes one class at a time.

    Args:
        scores_NC: Outputs, [N, C].
        label_N: Classes, int64 [N].
    """
    from scipy.stats import rankdata

    if not bool(scores_NC.isfinite().all()):
        return math.nan
    scores_NC = scores_NC.double()
    # The difference of two classes orders examples as the probability does, and does not saturate.
    of_class = scores_NC.diff(dim=1) if scores_NC.shape[1] == 2 else scores_NC.log_softmax(1)
    rank_NC = torch.from_numpy(rankdata(of_class.cpu().numpy(), axis=0))
    label_N = label_N.cpu()
    classes = torch.arange(1, 2) if scores_NC.shape[1] == 2 else torch.arange(scores_NC.shape[1])
    is_NC = label_N[:, None] == classes
    yes_C, count = is_NC.sum(0), len(label_N)
    occurs_C = (yes_C > 0) & (yes_C < count)
    if not bool(occurs_C.any()):
        return math.nan
    above_C = (rank_NC * is_NC).sum(0) - yes_C * (yes_C + 1) / 2
    return (above_C / (yes_C * (count - yes_C)))[occurs_C].mean().item()


def _confusion_cells(scores_NC: Tensor, label_N: Tensor) -> dict[str, float]:
    from sklearn.metrics import confusion_matrix

    classes = range(scores_NC.shape[1])
    label, predicted = label_N.cpu().numpy(), scores_NC.argmax(-1).cpu().numpy()
    count_CC = confusion_matrix(label, predicted, labels=list(classes))
    return {f"confusion/{i}/{j}": float(count_CC[i, j]) for i in classes for j in classes}


# --- text -------------------------------------------------------------------------------------------


def score_targets(output_B: Tensor, target_B: Tensor) -> TargetScores:
    """Return the scores of the targets.

    Args:
        output_B: [B, ..., V].
        target_B: int64 [B, ...].
    """
    flat = functional.cross_entropy(output_B.flatten(0, -2), target_B.flatten(), reduction="none")
    return TargetScores(flat.view(target_B.shape), output_B.argmax(-1) == target_B)


def bits_per_byte(nats_B: Tensor, target_B: Tensor, bytes_V: Tensor | None) -> float:
    """Return the bits per byte of text, which can be compared between vocabularies, unlike the loss of a symbol.

    Args:
        nats_B: -log p of each target, in nats.
        target_B: The targets, int64.
        bytes_V: Number of bytes of each symbol. None if each is one byte.
    """
    count = target_B.numel() if bytes_V is None else int(bytes_V.to(target_B.device)[target_B].sum())
    return nats_B.double().sum().item() / math.log(2) / count if count else math.nan


# --- numbers ----------------------------------------------------------------------------------------


def errors(output: Tensor, target: Tensor) -> dict[str, float]:
    """Return the mean absolute error and R2, the fraction of the variance that is explained, over all columns."""
    output, target = reshape_like(output, target).double(), target.double()
    spread = (target - target.mean(0)).square().sum()
    return {
        "mae": (output - target).abs().mean().item(),
        "r2": (1 - (output - target).square().sum() / spread).item() if spread > 0 else math.nan,
    }


def reshape_like(output: Tensor, target: Tensor) -> Tensor:
    """Return the output in the shape of the target, so that [B, 1] and [B] do not broadcast to [B, B].

    Raises:
        ValueError: If they have different numbers of elements.
    """
    if output.numel() != target.numel():
        raise ValueError(
            f"model: outputs of shape {list(output.shape)} for targets of shape {list(target.shape)}. "
            "Return one output for each target"
        )
    return output.reshape(target.shape)
