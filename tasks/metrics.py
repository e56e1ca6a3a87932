"""What is measured of a whole part beside its mean loss, chosen by name."""

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
CELLS_UP_TO = 10  # classes of a confusion matrix, of which each cell is a metric


class TargetScores(NamedTuple):
    """What accuracy and bits per byte need of each target: -log p, in nats, and whether it had the largest output."""

    nats_B: Tensor
    right_B: Tensor


@dataclass(frozen=True)
class Measures:
    """(output, target) of a whole part -> {name: number}, as `Problem.metrics` asks.

    Of classes (the last dimension of the output; all positions of a sequence together):
    accuracy; precision, recall, f1: the mean over the classes that occur among the targets, 0 for a class that is
    never predicted; auroc: the area under the ROC curve, of two classes that of class 1, of more the mean of each one
    against the rest, over the classes that occur; NaN where all targets are of one class, or an output is not finite;
    confusion: how many examples of class i were taken for class j, as "confusion/i/j".

    Of numbers, all columns together: mse, mae, r2, the share of the variance that is explained. unit: what one of the
    targets' units is in those that the metrics are wanted in.

    Of text: bits_per_byte, sum of -log2 p over the sum of the bytes of the targets. bytes_V: int64, the bytes of each
    symbol; None: one each.
    """

    names: tuple[str, ...]
    unit: float = 1.0
    bytes_V: Tensor | None = None

    def kept(self, output_B: Any, target_B: Tensor) -> Any:
        """What is needed of a batch, in place of its output: of text two numbers a symbol, not the whole vocabulary."""
        return score_targets(output_B, target_B) if self._is_of_text() else output_B

    def __call__(self, output: Any, target: Tensor) -> dict[str, float]:
        """output: of the whole part, or what was kept of its batches."""
        if self._is_of_text():
            scores = output if isinstance(output, TargetScores) else score_targets(output, target)
            return self._measure_text(scores, target)
        measure = self._measure_numbers if target.is_floating_point() else self._measure_classes
        value_of = measure(output, target)
        return {name: value for name, value in value_of.items() if name.partition("/")[0] in self.names}

    def _is_of_text(self) -> bool:
        return "bits_per_byte" in self.names and set(self.names) <= {"accuracy", "bits_per_byte"}

    def _measure_text(self, output: TargetScores, target: Tensor) -> dict[str, float]:
        found = {
            "accuracy": output.right_B.double().mean().item(),
            "bits_per_byte": bits_per_byte(output.nats_B, target, self.bytes_V),
        }
        return {name: found[name] for name in self.names}

    def _measure_numbers(self, output: Tensor, target: Tensor) -> dict[str, float]:
        found = errors(output, target)
        difference = reshape_like(output, target).double() - target.double()
        mse = difference.square().mean().item() * self.unit**2
        return {"mse": mse, "mae": found["mae"] * self.unit, "r2": found["r2"]}

    def _measure_classes(self, output: Tensor, target: Tensor) -> dict[str, float]:
        scores, labels = output.detach().flatten(0, -2), target.flatten()
        found: dict[str, float] = {}
        if "accuracy" in self.names:
            found |= accuracy(scores, labels)
        if {"precision", "recall", "f1"} & set(self.names):
            found |= _class_averages(scores, labels)
        if "auroc" in self.names:
            found["auroc"] = auroc(scores, labels)
        if "confusion" in self.names:
            found |= _confusion_cells(scores, labels)
        if "bits_per_byte" in self.names:
            found["bits_per_byte"] = bits_per_byte(score_targets(scores, labels).nats_B, labels, self.bytes_V)
        return found


def build_measures(names: Sequence[str], target: Tensor, classes: int, **told: Any) -> Measures:
    """The metrics of these names for targets like `target`. Raises ValueError for one that they do not have."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"task.metrics={names}: this is no list of names. Write [accuracy, f1].")
    of_text = OF_TEXT if told.get("bytes_V") is not None or classes == 256 else ()
    known = OF_NUMBERS if target.is_floating_point() else (*OF_CLASSES, *of_text)
    for name in names:
        if name not in known:
            kind = "numbers" if target.is_floating_point() else "classes"
            raise ValueError(
                f"task.metrics={name}: targets that are {kind} have no such metric. Choose from {', '.join(known)}."
            )
    if "confusion" in names and classes > CELLS_UP_TO:
        raise ValueError(
            f"task.metrics=confusion: {classes} classes would be {classes**2} metrics. Leave it out, or call "
            "sklearn.metrics.confusion_matrix with the final model."
        )
    return Measures(tuple(names), **told)


# --- classes ----------------------------------------------------------------------------------------


def accuracy(output: Tensor, target: Tensor) -> dict[str, float]:
    """The fraction of targets whose class has the largest output."""
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
    """From the ranks of the scores, equal ones sharing theirs: the U statistic of Mann and Whitney, all at once.

    sklearn's roc_auc_score is the same number, one class a call.
    """
    from scipy.stats import rankdata

    if not bool(scores_NC.isfinite().all()):
        return math.nan
    scores_NC = scores_NC.double()
    # Of two classes the difference, which has the order of the probability and does not saturate.
    of_class = scores_NC.diff(dim=1) if scores_NC.shape[1] == 2 else scores_NC.log_softmax(1)
    rank_NC = torch.from_numpy(rankdata(of_class.cpu().numpy(), axis=0))
    label_N = label_N.cpu()
    classes = torch.arange(1, 2) if scores_NC.shape[1] == 2 else torch.arange(scores_NC.shape[1])
    is_NC = label_N[:, None] == classes
    yes_C, count = is_NC.sum(0), len(label_N)
    there_C = (yes_C > 0) & (yes_C < count)
    if not bool(there_C.any()):
        return math.nan
    above_C = (rank_NC * is_NC).sum(0) - yes_C * (yes_C + 1) / 2
    return (above_C / (yes_C * (count - yes_C)))[there_C].mean().item()


def _confusion_cells(scores_NC: Tensor, label_N: Tensor) -> dict[str, float]:
    from sklearn.metrics import confusion_matrix

    classes = range(scores_NC.shape[1])
    label, predicted = label_N.cpu().numpy(), scores_NC.argmax(-1).cpu().numpy()
    count_CC = confusion_matrix(label, predicted, labels=list(classes))
    return {f"confusion/{i}/{j}": float(count_CC[i, j]) for i in classes for j in classes}


# --- text -------------------------------------------------------------------------------------------


def score_targets(output_B: Tensor, target_B: Tensor) -> TargetScores:
    """Outputs [B, ..., V] for targets [B, ...]."""
    flat = functional.cross_entropy(output_B.flatten(0, -2), target_B.flatten(), reduction="none")
    return TargetScores(flat.view(target_B.shape), output_B.argmax(-1) == target_B)


def bits_per_byte(nats_B: Tensor, target_B: Tensor, bytes_V: Tensor | None) -> float:
    """Comparable between vocabularies, which the loss of a symbol is not."""
    count = target_B.numel() if bytes_V is None else int(bytes_V.to(target_B.device)[target_B].sum())
    return nats_B.double().sum().item() / math.log(2) / count if count else math.nan


# --- numbers ----------------------------------------------------------------------------------------


def errors(output: Tensor, target: Tensor) -> dict[str, float]:
    """Mean absolute error, and R2, the share of the variance that is explained, over all columns together."""
    output, target = reshape_like(output, target).double(), target.double()
    spread = (target - target.mean(0)).square().sum()
    return {
        "mae": (output - target).abs().mean().item(),
        "r2": (1 - (output - target).square().sum() / spread).item() if spread > 0 else math.nan,
    }


def reshape_like(output: Tensor, target: Tensor) -> Tensor:
    """The output in the target's shape, so that [B, 1] and [B] are not spread out to [B, B]."""
    if output.numel() != target.numel():
        raise ValueError(f"model: outputs of shape {list(output.shape)} for targets of shape {list(target.shape)}")
    return output.reshape(target.shape)
