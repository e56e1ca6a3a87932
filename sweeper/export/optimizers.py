"""The optimizer of a trial as code, for a library that asks for it together with the schedule."""

from __future__ import annotations

from typing import NamedTuple

from sweeper.export.subject import Exported
from sweeper.training.optimizers.groups import BIAS, EMBEDDING, NORM
from sweeper.training.optimizers.spec import OptimizerSpec, pattern_list
from sweeper.types import InputError

TESTS = {
    "norm": f're.search(r"{NORM.pattern}", type(module).__name__)',
    "embedding": f're.search(r"{EMBEDDING.pattern}", type(module).__name__)',
    "bias": f're.search(r"{BIAS.pattern}", name)',
}


class Parts(NamedTuple):
    """Text of an optimizer.

    Attributes:
        imports: Its imports, a line each.
        helper: A function that makes its parameter groups, or "".
        call: Its call.
    """

    imports: tuple[str, ...]
    helper: str
    call: str


def lightning_parts(exported: Exported) -> Parts:
    """Return the optimizer of a LightningModule.

    Raises:
        InputError: If it is one of this package's own, which its trainers drive.
    """
    spec = exported.optimizer
    if spec.target.startswith("sweeper."):
        name = spec.target.rpartition(".")[2]
        remedy = "Use torch, and make an optimizer with lr=PEAK_LR"
        raise InputError("to", "lightning", f"its optimizer, {name}, is sweeper's own", remedy)
    if not (spec.no_decay or spec.groups or spec.layer_decay or spec.wd_mode != "lr"):
        return Parts((_import(spec),), "", _call(spec, "module.parameters()"))
    if spec.groups or spec.layer_decay or spec.wd_mode != "lr" or not set(pattern_list(spec.no_decay)) <= set(TESTS):
        problem = f"its optimizer has parameter groups that depend on your model ({exported.groups_text})"
        remedy = "Use torch, and make these groups with lr=PEAK_LR times their factor"
        raise InputError("to", "lightning", problem, remedy)
    tests = "\n        or ".join(TESTS[kind] for kind in pattern_list(spec.no_decay))
    helper = f'''

def parameter_groups(module):
    """Return its trained parameters in two groups; the second has no weight decay."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    spared = {{id(parameter) for part in module.modules() for parameter in _spared(part)}}
    return [
        {{"params": [parameter for parameter in trained if id(parameter) not in spared]}},
        {{"params": [parameter for parameter in trained if id(parameter) in spared], "weight_decay": 0.0}},
    ]


def _spared(module):
    own = module.named_parameters(recurse=False)
    return [
        parameter
        for name, parameter in own
        if {tests}
    ]
'''
    return Parts(("import re", _import(spec)), helper, _call(spec, "parameter_groups(module)"))


def _import(spec: OptimizerSpec) -> str:
    module, _, name = spec.target.rpartition(".")
    return "import torch" if module.startswith("torch.") else f"from {module} import {name}"


def _call(spec: OptimizerSpec, parameters: str) -> str:
    module, _, name = spec.target.rpartition(".")
    arguments = "".join(f", {option}={value!r}" for option, value in spec.arguments.items())
    return f"{spec.target if module.startswith('torch.') else name}({parameters}, lr=PEAK_LR{arguments})"
