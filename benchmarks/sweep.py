"""A whole sweep, wall clock, logging to MLflow: ours against Optuna, plain PyTorch and MLflow as tutorials show.

    python benchmarks/sweep.py [--trials 200] [--steps 600]

Both are processes of their own, timed from start to end, imports too. The peer trains the very trials that ours drew
(random search, no pruning): a cosine schedule with warmup, an MLP 64-128-10 on handwritten digits, batches of 64,
validation twenty times a trial, LR and training loss logged at every update. Prints both lists of trials.
"""

from __future__ import annotations

import argparse
import csv
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TUTORIAL = """
import csv, sys
import mlflow, optuna, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sweeper.tasks.digits import Digits

rows, steps, out = list(csv.DictReader(open(sys.argv[1]))), int(sys.argv[2]), sys.argv[3]
data = Digits()
x, y = data.fetch("train", 0, torch.arange(data.size("train", 0)))
x_valid, y_valid = data.fetch("valid", 0, torch.arange(data.size("valid", 0)))
loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True, drop_last=True)
valid_loader = DataLoader(TensorDataset(x_valid, y_valid), batch_size=256)
mlflow.set_experiment("tutorial")
torch.set_num_threads(2)

def objective(trial):
    lr = trial.suggest_float("peak_lr", 1e-4, 10, log=True)
    warmup = trial.suggest_categorical("warmup", [0.0, 0.02, 0.05, 0.1, 0.2])
    decay = trial.suggest_float("decay", 1e-4, 1, log=True)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)
    ramp = max(1, round(warmup * steps))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (ramp + 1), 1.0, ramp),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - ramp, eta_min=decay * lr),
    ], [ramp])
    criterion, step = nn.CrossEntropyLoss(), 0
    with mlflow.start_run(run_name=f"trial-{trial.number}"):
        mlflow.log_params(trial.params)
        while step < steps:
            for inputs, target in loader:
                model.train()
                optimizer.zero_grad()
                loss = criterion(model(inputs.flatten(1)), target)
                loss.backward()
                optimizer.step()
                mlflow.log_metric("train_loss", loss.item(), step=step)
                mlflow.log_metric("lr", schedule.get_last_lr()[0], step=step)
                schedule.step()
                step += 1
                if step % (steps // 20) == 0:
                    model.eval()
                    with torch.no_grad():
                        total = sum(criterion(model(a.flatten(1)), b).item() * len(b) for a, b in valid_loader)
                    value = total / len(y_valid)
                    mlflow.log_metric("valid_loss", value, step=step)
                    trial.report(value if value == value else 1e9, step)
                if step == steps:
                    break
    return value if value == value else 1e9

study = optuna.create_study(storage="sqlite:///optuna.db", sampler=optuna.samplers.RandomSampler(seed=0))
for row in rows:
    study.enqueue_trial({name: float(row[name]) for name in ("peak_lr", "warmup", "decay")})
study.optimize(objective, n_trials=len(rows))
with open(out, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["trial", "peak_lr", "warmup", "decay", "value"])
    for trial in study.trials:
        writer.writerow([trial.number, *(trial.params[n] for n in ("peak_lr", "warmup", "decay")), trial.value])
"""


def ours(folder: Path, trials: int, steps: int) -> tuple[float, list[dict[str, str]]]:
    """Seconds, and the trials."""
    settings = (
        "schedule=cosine data=digits model=mlp model.width=128 model.depth=1 search=random pruner=none fresh=true "
        f"train.batch_size=64 train.steps={steps} search.n_trials={trials} search.concurrent_trials=64 name=ours"
    )
    seconds = timed([sys.executable, "-m", "sweeper", *settings.split()], folder)
    newest = max(folder.glob("sweeps/*/tables/trials.csv"), key=lambda path: path.stat().st_mtime)
    with newest.open() as file:
        return seconds, sorted(csv.DictReader(file), key=lambda row: int(row["trial"]))


def tutorial(folder: Path, rows: list[dict[str, str]], steps: int) -> tuple[float, list[dict[str, str]]]:
    given, out, script = folder / "given.csv", folder / "out.csv", folder / "tutorial.py"
    with given.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["peak_lr", "warmup", "decay"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    script.write_text(TUTORIAL)
    seconds = timed([sys.executable, str(script), str(given), str(steps), str(out)], folder)
    with out.open() as file:
        return seconds, list(csv.DictReader(file))


def timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[1:4]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    print(f"{platform.machine()}, {platform.system()}: {given.trials} trials of {given.steps} updates, MLflow on")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "ours").mkdir()
        (Path(name) / "peer").mkdir()
        our_seconds, our_trials = ours(Path(name) / "ours", given.trials, given.steps)
        print(f"ours {our_seconds:.1f} s", flush=True)
        peer_seconds, peer_trials = tutorial(Path(name) / "peer", our_trials, given.steps)
    print(f"tutorial {peer_seconds:.1f} s: {peer_seconds / our_seconds:.1f} times as long")
    print("trial  peak_lr  warmup  decay  ours valid/loss  tutorial valid/loss")
    for one, other in zip(our_trials, peer_trials, strict=True):
        shown = one["value"] or one["state"]
        print(one["trial"], one["peak_lr"], one["warmup"], one["decay"], shown, other["value"])


if __name__ == "__main__":
    main()
