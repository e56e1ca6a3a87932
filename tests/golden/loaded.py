"""Run a verb of the command line, or `load NAME`, and print which modules were imported and how many, as JSON."""

import contextlib
import io
import json
import runpy
import sys

# fmt: off
HEAVY = [
    "IPython", "alembic", "cmaes", "cloudpickle", "fastapi", "filelock", "flask", "hydra",
    "matplotlib", "mlflow", "numpy", "omegaconf", "optuna", "pandas", "PIL", "platformdirs",
    "pyarrow", "pydantic", "ray", "requests", "rich", "scipy", "sklearn", "sqlalchemy",
    "sympy", "torch", "transformers", "yaml",
]
# fmt: on


def run(words):
    """Run the command without its output."""
    if words[0] == "load":
        import sweeper

        sweep = sweeper.load(words[1])
        assert len(sweep.trials)
        assert len(sweep.families)
        return
    sys.argv = ["sweeper", *words]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_module("sweeper", run_name="__main__")


if __name__ == "__main__":
    run(sys.argv[1:])
    tops = [name.partition(".")[0] for name in sys.modules]
    print(json.dumps({"heavy": sorted({*tops} & {*HEAVY}), "own": tops.count("sweeper"), "all": len(tops)}))
