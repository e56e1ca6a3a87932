"""Tables in real files: preprocessing by the training part, missing values, and errors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.tasks.arrays import Arrays
from sweeper.tasks.problems import Supervised
from sweeper.tasks.table_model import TableMLP
from sweeper.tasks.tabular import Row, Table, table

PARTS = ("train", "valid", "test")


def made(count=300):
    """Return a table with numbers and names, some missing, a group, and two targets."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": draw.normal(size=count),
            "age": np.where(draw.random(count) < 0.2, np.nan, draw.normal(40, 10, count)),
            "colour": draw.choice(["red", "blue", None], count),
            "sold": draw.random(count) < 0.5,
            "shop": draw.integers(0, 20, count),
        }
    )
    frame["kind"] = np.where(frame["size"] + (frame["colour"] == "red") > 0.5, "good", "bad")
    frame["price"] = 100 * frame["size"] + 30 * frame["sold"] + 1000.5
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    made().to_csv(folder / "goods.csv", index=False)
    made().to_csv(folder / "goods.csv.gz", index=False)
    made().to_csv(folder / "goods.txt", index=False, sep=";")
    made().to_parquet(folder / "goods.parquet")
    return folder


def of_kind(folder, file="goods.csv", **asked):
    return table(folder / file, "kind", **{"leave_out": ["price"], **asked})


def of_price(folder, **asked):
    return table(folder / "goods.csv", "price", **{"leave_out": ["kind"], **asked})


def every(data, part, partition=0):
    return data.fetch(part, partition, torch.arange(data.size(part, partition)))


def trained(task, steps=150):
    model, (inputs_B, target_B) = task.build(0), every(task.data, "train")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        loss_B = task.loss(task.forward(model, inputs_B), target_B)
        optimizer.zero_grad()
        loss_B.mean().backward()
        optimizer.step()
    inputs, target = every(task.data, "valid")
    with torch.no_grad():
        return task.metrics(task.forward(model, inputs), target)


# --- preprocessing ----------------------------------------------------------------------------------


def test_every_format_gives_the_same_data(folder):
    prints = {of_kind(folder, file).fingerprint for file in ("goods.csv", "goods.csv.gz", "goods.parquet")}
    assert prints == {of_kind(folder, "goods.txt", separator=";").fingerprint}


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """Return the table with its parts in a column. The 200 training rows have no green."""
    frame = made()
    frame["part"] = np.repeat(PARTS, [200, 50, 50])
    frame.loc[frame["part"] != "train", "colour"] = "green"
    file = tmp_path_factory.mktemp("parted") / "goods.csv"
    frame.to_csv(file, index=False)
    return frame, table(file, "kind", leave_out=["price"], split_by="part")


def test_the_training_part_alone_teaches_medians_scales_and_categories(parted):
    frame, data = parted
    train, gaps = frame.iloc[:200], frame["age"].isna()
    filled = frame[["size", "age", "shop"]].fillna({"age": train["age"].median()})
    scaled = (filled - filled.iloc[:200].mean()) / filled.iloc[:200].std(ddof=0)
    rows = {"train": slice(0, 200), "valid": slice(200, 250), "test": slice(250, 300)}
    for part, index in rows.items():
        inputs, target = every(data, part)
        assert isinstance(inputs, Row)
        expected = np.column_stack([scaled, gaps])[index]
        np.testing.assert_allclose(inputs.numbers_BF.numpy(), expected, rtol=1e-5, atol=1e-6)
        assert target.tolist() == (frame["kind"] == "good").astype(int)[index].tolist()
        colour = frame["colour"].map({"blue": 1, "red": 2}).fillna(0).astype(int)  # missing and green: 0
        sold = frame["sold"].astype(int) + 1
        assert inputs.code_BC.tolist() == np.column_stack([colour, sold])[index].tolist()
    assert (data.inputs, data.outputs, data.classes, data.categories) == (4, 2, ("bad", "good"), (3, 3))


def test_what_is_missing_or_unknown_begins_as_zeros():
    model = TableMLP(4, 2, (2, 3))
    assert model.embedding.weight[[0, 2]].eq(0).all()
    assert model.embedding.weight[[1, 3, 4]].abs().min() > 0


def test_a_table_of_numbers_alone_is_a_tensor(folder):
    data = of_kind(folder, leave_out=["price", "colour", "sold"])
    assert every(data, "train")[0].shape == (180, 4)
    assert data.categories == ()


def test_numbers_may_be_named_as_categories(folder):
    assert of_kind(folder, categorical=["shop"]).categories == (3, 3, 21)


def test_a_classification_is_learnt(folder):
    found = trained(Supervised(of_kind(folder), TableMLP, metrics=["accuracy", "f1", "auroc"]))
    assert found["accuracy"] > 0.85
    assert found["auroc"] > 0.9


def test_a_regression_is_learnt_and_measured_in_its_own_unit(folder):
    task = Supervised(of_price(folder), TableMLP)
    assert task.untrained_loss == pytest.approx(1, abs=1e-5)
    found = trained(task)
    assert found["r2"] > 0.95
    price = made()["price"]
    assert found["mse"] == pytest.approx((1 - found["r2"]) * price.var(), rel=0.5)


def test_a_data_set_is_there_on_every_machine():
    data = table()
    assert (data.inputs, data.outputs) == (30, 2)
    assert sum(data.size(part, 0) for part in PARTS) == 569


# --- weights, splits, folds -------------------------------------------------------------------------


def test_balanced_weights_make_classes_weigh_the_same(folder):
    data = of_kind(folder, class_weights="balanced")
    task, (inputs, target) = Supervised(data, TableMLP), every(data, "train")
    loss_B = task.loss(torch.zeros(len(target), 2), target)
    sums = [loss_B[target == label].sum().item() for label in (0, 1)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert loss_B.mean().item() == pytest.approx(task.untrained_loss, rel=1e-5)
    again = pickle.loads(pickle.dumps(task))
    assert torch.equal(again.loss(again.forward(again.build(0), inputs), target).detach() >= 0, target >= 0)


def test_weights_may_be_given_by_class(folder):
    task = Supervised(of_kind(folder, class_weights={"good": 3.0, "bad": 1}), TableMLP)
    loss_B = task.loss(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert (loss_B[1] / loss_B[0]).item() == pytest.approx(3)


def test_each_fold_is_prepared_by_its_own_training_part(folder):
    data = of_kind(folder, folds=4)
    assert data.partitions == 4
    for fold in range(4):
        numbers = every(data, "train", fold)[0].numbers_BF[:, :3]
        torch.testing.assert_close(numbers.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        assert torch.equal(every(data, "test", fold)[1], every(data, "test", 0)[1])
    assert sum(data.size("valid", fold) for fold in range(4)) == 240
    tests = {tuple(every(data, "test", fold)[0].numbers_BF[0].tolist()) for fold in range(4)}
    assert len(tests) == 4  # the same rows in the scale of each fold


def test_the_unit_of_a_regression_is_one_for_all_folds(folder):
    data = of_price(folder, folds=3)
    targets = torch.cat([every(data, "valid", fold)[1] for fold in range(3)])
    assert float(targets.mean()) == pytest.approx(0, abs=1e-5)
    assert float(targets.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_rows_of_one_group_stay_together(folder):
    data = of_kind(folder, split_by="shop", folds=3)
    assert data.partitions == 3
    assert sum(data.size(part, 0) for part in PARTS) == 300
    assert data.inputs == 3  # the group is not an input


# --- what cannot be used ----------------------------------------------------------------------------

FILES = {
    "empty": (b"", "the file is empty"),
    "header": (b"a,y\n", "the file has no rows"),
    "long row": (b"a,y\n1,2\n3,4,5\n", r"some rows do not fit the header .* data\.separator"),
    "all long": (b"a,y\n1,2,3\n4,5,6\n", r"some rows do not fit the header"),
    "open quote": (b'a,y\n"1,2\n3,4\n', r"some rows do not fit the header"),
    "latin": (b"a,y\n\xe9\xe9\xff,1\n", "not UTF-8 .* Save it as UTF-8"),
    "no target": (b"a,b\n1,2\n", r"data\.target=y: .* has no such column\. Choose from a, b$"),
    "missing": (b"a,y\n1,2\n3,\n", r"data\.target=y: 1 of 2 rows have no value"),
    "one class": (b"a,y\n1,x\n3,x\n", r"data\.target=y: all rows have the same class \(x\)"),
    "constant": (b"a,y\n1,2.5\n3,2.5\n", r"data\.target=y: it has infinite values, or is constant"),
    "names": (b"a,y\nn1,0\nn2,1\nn3,0\n", r"data\.leave_out: a has a different name in every row"),
    "infinite": (b"a,y\n1,0\ninf,1\n2,0\n", r"data\.leave_out: a is infinite in 1 rows"),
    "few": (b"a,y\n1,0\n2,1\n1,1\n", r"data\.valid=.*: with data\.test=.*, 3 examples cannot be split"),
    "nothing": (b"y\n1\n0\n", r"data\.leave_out: no input column is left"),
    "amounts": (
        b"a,y\n" + b"".join(b"1,%d\n" % i for i in range(200)),
        r"200 different whole numbers [^.]*\. .*=regression",
    ),
}


@pytest.mark.parametrize(("content", "told"), FILES.values(), ids=FILES)
def test_files_that_cannot_be_used_give_one_clear_error(tmp_path, content, told):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=told) as caught:
        table(tmp_path / "t.csv", "y", split="auto")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [("t.parquet", b"PAR1 no"), ("none.csv", None)])
def test_a_file_that_is_none_is_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^data\.path=.*: (cannot be read|there is no such file)"):
        table(tmp_path / name, "y")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"split": "by"}, r"data\.split=by: no such choice"),
        ({"leave_out": "price"}, r"data\.leave_out=price: not a list .* Write \[price\]"),
        ({"categorical": 3}, r"data\.categorical=3: not a list of columns\. Write \[3\]"),
        ({"categorical": ["colours"]}, r"data\.categorical=colours: .* has no such column"),
        ({"split_by": "sold"}, r"data\.valid=.*cannot be split"),
        ({"split_by": "colour"}, r"data\.split_by=colour: \d+ rows have no value"),
        ({"class_weights": {"good": 1}}, r"data\.class_weights=.* Write balanced, or {bad: 1\.0, good: 1\.0}"),
        ({"class_weights": "even"}, r"data\.class_weights=even: "),
        ({"problem": "regression"}, r"data\.problem=regression: data\.target=kind does not hold numbers"),
        ({"folds": 200}, r"data\.folds=200: "),
    ],
)
def test_what_does_not_fit_the_table_is_refused(folder, asked, told):
    with pytest.raises(ValueError, match=rf"^{told}"):
        of_kind(folder, **asked)


def test_a_regression_has_neither_weights_nor_strata(folder):
    with pytest.raises(ValueError, match=r"^data\.class_weights=balanced: a regression has no classes"):
        of_price(folder, class_weights="balanced")
    with pytest.raises(ValueError, match=r"^data\.split=stratified: "):
        of_price(folder, split="stratified")
    with pytest.raises(ValueError, match=r"^data\.target=null: .* Choose from size, age"):
        table(folder / "goods.csv")


# --- data frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("kind", {"leave_out": ["price"]}),
        ("price", {"leave_out": ["kind"]}),
        ("price", {"leave_out": ["kind"], "folds": 3, "split_by": "shop"}),
        ("kind", {"leave_out": ["price"], "class_weights": "balanced", "categorical": ["shop"]}),
    ],
)
def test_a_data_frame_is_the_same_data_as_its_file(folder, target, options):
    file, frame = table(folder / "goods.csv", target, **options), Table(made(), target, **options)
    for fold in range(file.partitions):
        for part in PARTS:
            (there, label), (here, own_label) = every(file, part, fold), every(frame, part, fold)
            assert torch.equal(there.numbers_BF, here.numbers_BF)
            assert torch.equal(there.code_BC, here.code_BC)
            assert torch.equal(label, own_label)
    assert (file.outputs, file.categories, file.classes) == (frame.outputs, frame.categories, frame.classes)
    assert Table(folder / "goods.csv", target, **options).fingerprint == frame.fingerprint


def test_a_table_brings_its_model(folder):
    task = Supervised(Table(made(), "kind", leave_out=["price"]))
    assert isinstance(task.build(0), TableMLP)
    with pytest.raises(ValueError, match=r"^model=None: Arrays has no model of its own\. Give a class"):
        Supervised(Arrays(np.zeros((9, 2)), np.arange(9) % 2))


def test_a_frame_is_copied_and_its_index_does_not_matter():
    frame = made()
    data = Table(frame, "kind", leave_out=["price"])
    before = data.fingerprint
    first = every(data, "train")[0].numbers_BF.clone()
    shuffled = frame.set_index(pd.Index(range(len(frame), 0, -1)))
    frame["size"] = 0.0
    assert torch.equal(every(data, "train")[0].numbers_BF, first)
    assert Table(shuffled, "kind", leave_out=["price"]).fingerprint == before


def changes():
    frame = made()
    yield "target", frame.assign(price=2 * frame["price"]), {}
    yield "number", frame.assign(size=frame["size"].where(frame.index != 7, 9.0)), {}
    yield "category", frame.assign(colour=frame["colour"].where(frame.index != 7, "green")), {}
    yield "name", frame.rename(columns={"age": "years"}), {}
    yield "column", frame.drop(columns="age"), {}
    yield "kind of column", frame, {"categorical": ["shop"]}
    yield "split", frame, {"split_seed": 1}


@pytest.mark.parametrize(("frame", "options"), [case[1:] for case in changes()], ids=[case[0] for case in changes()])
def test_another_table_has_another_fingerprint(frame, options):
    first = Table(made(), "price", leave_out=["kind"]).fingerprint
    assert Table(frame, "price", leave_out=["kind"], **options).fingerprint != first


def test_a_file_keeps_its_fingerprint_and_its_standardized_target(folder):
    """Stored sweeps of `data=tabular` are identified by it, also with a loss of their own."""
    data = of_price(folder)
    assert Supervised(data, TableMLP, torch.nn.PoissonNLLLoss()).data is data
    assert data.fingerprint != Table(made(), "price", leave_out=["kind"]).fingerprint


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ([[1, 2]], r"^frame=list: not a table\. Give a pandas data frame, or the path of a file"),
        (pd.DataFrame({"y": []}), r"^frame: the table has no rows or no columns"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "y", "a"]), r"^frame: two columns are called a\. Rename one"),
        (pd.DataFrame({"a": [1]}), r"^data\.target=y: the table has no such column\. Choose from a$"),
        ("none.csv", r"^data\.path=none\.csv: there is no such file"),
    ],
    ids=["list", "empty", "twice", "no target", "no file"],
)
def test_a_frame_that_cannot_be_used_is_refused(frame, told):
    with pytest.raises(ValueError, match=told):
        Table(frame, "y")
