"""Compare the wall-clock time of a whole sweep, logging to MLflow, with other libraries used as their tutorials show.

    python benchmarks/sweep.py [--trials 40] [--steps 600] [--peers optuna]

Each runs in its own process, timed from start to end including imports. Ours runs before each peer. All train an MLP
64-128-10 (9,610 parameters) on handwritten digits with a cosine schedule and warmup, in batches of 64, with twenty
validations per trial.

optuna   Optuna with plain PyTorch and MLflow. It trains the same trials as ours (random search, no pruning), and logs
         LR and training loss at every update, as ours does. Prints both lists of trials.
ray      Ray Tune with ASHA (`pip install "ray[tune]"`) and MLflow's callback, which logs each validation. Ours prunes
         by successive halving with the same grace period. Both stop trials, so the comparison is of seconds per update.
"""

from __future__ import annotations

import argparse
import csv
import os
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

RAY = """
import csv, sys
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

trials, steps, out, database = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

def train(config):
    from sweeper.tasks.digits import Digits

    torch.set_num_threads(1)
    data = Digits()
    x, y = data.fetch("train", 0, torch.arange(data.size("train", 0)))
    x_valid, y_valid = data.fetch("valid", 0, torch.arange(data.size("valid", 0)))
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True, drop_last=True)
    valid_loader = DataLoader(TensorDataset(x_valid, y_valid), batch_size=256)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    lr = config["peak_lr"]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)
    ramp = max(1, round(config["warmup"] * steps))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (ramp + 1), 1.0, ramp),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - ramp, eta_min=config["decay"] * lr),
    ], [ramp])
    criterion, step = nn.CrossEntropyLoss(), 0
    while step < steps:
        for inputs, target in loader:
            model.train()
            optimizer.zero_grad()
            loss = criterion(model(inputs.flatten(1)), target)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % (steps // 20) == 0:
                model.eval()
                with torch.no_grad():
                    total = sum(criterion(model(a.flatten(1)), b).item() * len(b) for a, b in valid_loader)
                value = total / len(y_valid)
                tune.report({
                    "valid_loss": value if value == value else 1e9,
                    "train_loss": loss.item(),
                    "lr": schedule.get_last_lr()[0],
                    "updates": step,
                })
            if step == steps:
                break

tuner = tune.Tuner(
    train,
    param_space={
        "peak_lr": tune.loguniform(1e-4, 10),
        "warmup": tune.choice([0.0, 0.02, 0.05, 0.1, 0.2]),
        "decay": tune.loguniform(1e-4, 1),
    },
    tune_config=tune.TuneConfig(
        metric="valid_loss",
        mode="min",
        num_samples=trials,
        scheduler=tune.schedulers.ASHAScheduler(max_t=20, grace_period=4, reduction_factor=3),
    ),
    run_config=tune.RunConfig(callbacks=[MLflowLoggerCallback(database, experiment_name="ray")], verbose=0),
)
with open(out, "w", newline="") as file:
    writer = csv.writer(file)
    names = ["peak_lr", "warmup", "decay"]
    writer.writerow(["trial", *names, "steps", "value"])
    for number, result in enumerate(tuner.fit()):
        config, metrics = result.config, result.metrics or {}
        row = [config[name] for name in names]
        writer.writerow([number, *row, metrics.get("updates", 0), metrics.get("valid_loss")])
"""


def run_sweeper(folder: Path, trials: int, steps: int, pruner: str) -> tuple[float, list[dict[str, str]]]:
    """Run our sweep and return its seconds and its trials."""
    settings = (
        "schedule=cosine data=digits model=mlp model.width=128 model.depth=1 search=random fresh=true "
        f"{pruner} optimizer.peak_lr={{low:1e-4,high:10,log:true}} schedule.cosine.decay={{low:1e-4,high:1,log:true}} "
        f"train.batch_size=64 train.steps={steps} search.n_trials={trials} search.concurrent_trials=64 name=ours"
    )
    seconds = run_timed([sys.executable, "-m", "sweeper", *settings.split()], folder)
    newest = max(folder.glob("sweeps/*/tables/trials.csv"), key=lambda path: path.stat().st_mtime)
    with newest.open() as file:
        return seconds, sorted(csv.DictReader(file), key=lambda row: int(row["trial"]))


def run_tutorial(folder: Path, rows: list[dict[str, str]], steps: int) -> tuple[float, list[dict[str, str]]]:
    """Run Optuna on the trials in `rows` and return its seconds and its trials."""
    trials_csv, out, script = folder / "trials.csv", folder / "out.csv", folder / "tutorial.py"
    with trials_csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["peak_lr", "warmup", "decay"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    script.write_text(TUTORIAL)
    seconds = run_timed([sys.executable, str(script), str(trials_csv), str(steps), str(out)], folder)
    with out.open() as file:
        return seconds, list(csv.DictReader(file))


def run_ray(folder: Path, trials: int, steps: int) -> tuple[float, list[dict[str, str]]]:
    """Run Ray Tune and return its seconds and its trials."""
    out, script = folder / "out.csv", folder / "ray_tune.py"
    script.write_text(RAY)
    database = f"sqlite:///{folder / 'mlflow.db'}"
    seconds = run_timed([sys.executable, str(script), str(trials), str(steps), str(out), database], folder)
    with out.open() as file:
        return seconds, list(csv.DictReader(file))


def run_timed(command: list[str], folder: Path) -> float:
    """Run a command in the folder and return its seconds."""
    start = time.perf_counter()
    environment = {**os.environ, "RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{command[1:4]} ended with {process.returncode}: {process.stderr[-2000:]}")
    return time.perf_counter() - start


def trainer_reason(folder: Path) -> str:
    """Return why our sweep used its trainer."""
    (config,) = folder.glob("sweeps/*/config.yaml")
    return next((line.strip() for line in config.read_text().splitlines() if "why:" in line), "as requested")


def compare_with_optuna(folder: Path, trials: int, steps: int) -> None:
    our_seconds, our_trials = run_sweeper(folder / "ours", trials, steps, "pruner=none")
    print(f"ours {our_seconds:.1f} s ({trainer_reason(folder / 'ours')})", flush=True)
    peer_seconds, peer_trials = run_tutorial(folder / "peer", our_trials, steps)
    print(f"Optuna, PyTorch, MLflow {peer_seconds:.1f} s: {peer_seconds / our_seconds:.1f} times as long", flush=True)
    print("trial  peak_lr  warmup  decay  ours valid/loss  tutorial valid/loss")
    for one, other in zip(our_trials, peer_trials, strict=True):
        value = one["value"] or one["state"]
        print(one["trial"], one["peak_lr"], one["warmup"], one["decay"], value, other["value"])


def compare_with_ray(folder: Path, trials: int, steps: int) -> None:
    pruner = "pruner=successive_halving pruner.min_resource=4 pruner.reduction_factor=3"
    rates = {}
    for name, (seconds, rows) in {
        "ours": run_sweeper(folder / "ours", trials, steps, pruner),
        "Ray Tune, ASHA, MLflow": run_ray(folder / "peer", trials, steps),
    }.items():
        updates = sum(int(float(row["steps"])) for row in rows)
        rates[name] = seconds / updates
        best = min(float(row["value"]) for row in rows if row["value"])
        print(f"{name}: {seconds:.1f} s, {len(rows)} trials, {updates} updates, {1e3 * rates[name]:.2f} s per 1,000; ")
        print(f"    best {best:.4f}", flush=True)
    our_rate, peer_rate = rates.values()
    print(f"Ray takes {peer_rate / our_rate:.1f} times as long for the same number of updates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--peers", default="optuna", help="optuna, ray, or optuna,ray")
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}: {args.trials} trials of at most {args.steps} updates, MLflow on", flush=True)
    for peer in args.peers.split(","):
        with tempfile.TemporaryDirectory() as name:
            for side in ("ours", "peer"):
                (Path(name) / side).mkdir()
            {"optuna": compare_with_optuna, "ray": compare_with_ray}[peer](Path(name), args.trials, args.steps)


if __name__ == "__main__":
    main()
