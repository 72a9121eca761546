from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lance
import numpy as np
import pytest
from PIL import Image

import laketag
from laketag.errors import BadSQL, ColumnError, StoreError, TrainingError
from laketag.training.epochs import Worker
from loops import as_list, number_of
from programs import environment, picture
from tars import write_tar

if TYPE_CHECKING:  # else every process of a test run imports torch, which takes seconds
    from torch.utils.data import DataLoader
    from torchdata.stateful_dataloader import StatefulDataLoader

ROWS = 43
# Else each worker of a loader imports it for seconds, as those that are spawned do.
multiprocessing.set_forkserver_preload(["torch"])


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows of pictures whose shade is their number times 5, in fragments of 10; read it only."""
    folder = tmp_path_factory.mktemp("training")
    samples = [
        [
            (f"{n:03d}.jpg", picture(n * 5)),
            (f"{n:03d}.json", json.dumps({"n": n, "BRIGHT": n * 5 / 255}).encode()),
        ]
        for n in range(ROWS)
    ]
    shard, made = str(write_tar(folder / "in.tar", *samples)), str(folder / "dataset")
    laketag.import_([shard], made, settings=laketag.ImportSettings(rows_per_fragment=10))
    return made


def numbers(uri: str, **options: Any) -> Any:
    """A dataset that gives row numbers only, of no image."""
    options = {"columns": ["n"], "transform": number_of, **options}
    return laketag.torch_dataset(uri, **options)


def flat(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def with_workers(
    dataset: Any, workers: int = 2, start: str = "forkserver", **options: Any
) -> DataLoader[Any]:
    return loader_of(dataset, batch_size=None, num_workers=workers, multiprocessing_context=start, **options)


def loader_of(dataset: Any, **options: Any) -> DataLoader[Any]:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, **options)


def test_rows_come_once_in_the_order_of_the_dataset(uri):
    dataset = numbers(uri)

    assert list(dataset) == list(range(ROWS))
    assert list(dataset) == list(range(ROWS))
    assert dataset.rows == ROWS


def test_a_version_that_was_cleaned_away_ends_the_pass_in_one_line(uri, tmp_path):
    dataset = numbers(str(shutil.copytree(uri, tmp_path / "dataset")))
    assert dataset.rows == ROWS
    shutil.rmtree(tmp_path / "dataset" / "data")

    with pytest.raises(StoreError, match="dataset cannot be read or written") as raised:
        list(dataset)

    assert "\n" not in str(raised.value)


def test_where_and_columns_choose_and_types_are_what_collating_takes(uri):
    import torch

    dataset = laketag.torch_dataset(uri, where="n >= 40", columns=["jpg", "BRIGHT", "__key__"], batch_size=2)

    batches = list(dataset)

    assert [batch["__key__"] for batch in batches] == [["040", "041"], ["042"]]
    assert batches[0]["jpg"].shape == (2, 3, 12, 16)
    assert batches[0]["jpg"].dtype == torch.uint8
    assert batches[0]["BRIGHT"].tolist() == [200 / 255, 205 / 255]


def test_images_are_what_pillow_decodes_or_the_bytes_that_they_are(uri):
    [as_tensor] = laketag.torch_dataset(uri, where="n = 7", columns=["jpg"])
    [as_pil] = laketag.torch_dataset(uri, where="n = 7", columns=["jpg"], decode="pil")
    [as_bytes] = laketag.torch_dataset(uri, where="n = 7", columns=["jpg"], decode="bytes")

    right = np.asarray(Image.open(io.BytesIO(picture(35))).convert("RGB"))
    assert as_bytes == {"jpg": picture(35)}
    assert np.array_equal(np.asarray(as_pil["jpg"]), right)
    assert np.array_equal(as_tensor["jpg"].permute(1, 2, 0).numpy(), right)


def test_without_columns_there_are_the_image_and_what_query_shows(uri):
    row = next(iter(laketag.torch_dataset(uri)))

    assert {"jpg", "n", "BRIGHT", "__key__"} <= row.keys()
    assert row["jpg"].shape == (3, 12, 16)


def test_each_epoch_has_an_order_of_its_own_that_its_seed_gives_again(uri):
    dataset = numbers(uri, shuffle=True, seed=3)

    first = list(dataset)
    dataset.set_epoch(1)
    second = list(dataset)
    dataset.set_epoch(0)

    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second != list(range(ROWS)) != first
    assert list(dataset) == first
    assert list(numbers(uri, shuffle=True, seed=4)) != first


@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_split_every_epoch_exactly(uri, shuffle):
    ranks = [numbers(uri, rank=rank, world_size=4, shuffle=shuffle) for rank in range(4)]

    parts = [list(rank) for rank in ranks]

    assert sorted(flat(parts)) == list(range(ROWS))
    assert [len(part) for part in parts] == [rank.rows for rank in ranks]
    assert {len(part) for part in parts} == {10, 11}
    assert [numbers(uri, rank=r, world_size=4, even=True).rows for r in range(4)] == [10] * 4


def test_rows_that_were_deleted_or_committed_later_do_not_disturb(uri, tmp_path):
    lance.write_dataset(lance.dataset(uri).to_table(columns=["n", "jpg"]), str(tmp_path / "own"))
    dataset = lance.dataset(str(tmp_path / "own"))
    dataset.delete("n in (0, 5, 42)")
    rows = numbers(str(tmp_path / "own"), shuffle=True)

    dataset.delete("n < 30")

    assert sorted(rows) == [n for n in range(42) if n not in (0, 5)]


@pytest.mark.parametrize("taken", [0, 1, 17, ROWS])
def test_a_pass_goes_on_where_its_state_was_taken(uri, taken):
    options = {"shuffle": True, "seed": 1, "where": "n <> 11"}
    dataset = numbers(uri, **options)
    dataset.set_epoch(3)
    whole = list(numbers_of_epoch(numbers(uri, **options), 3))
    rows = iter(dataset)
    before = [next(rows) for _ in range(min(taken, len(whole)))]
    state = json.loads(json.dumps(dataset.state_dict()))

    resumed = numbers(uri, **options)
    resumed.load_state_dict(state)
    after = list(resumed)

    assert before + after == whole
    assert resumed.epoch == 3
    assert list(resumed) == whole


def numbers_of_epoch(dataset: Any, epoch: int) -> Any:
    dataset.set_epoch(epoch)
    return dataset


def test_a_loop_that_sets_every_epoch_goes_on_in_the_one_that_its_state_is_of(uri):
    options = {"shuffle": True, "seed": 1}
    first = numbers(uri, **options)
    first.set_epoch(1)
    rows = iter(first)
    seen = [next(rows) for _ in range(10)]
    resumed = numbers(uri, **options)
    resumed.load_state_dict(first.state_dict())

    resumed.set_epoch(1)
    seen += list(resumed)
    resumed.set_epoch(1)
    again = list(resumed)

    whole = list(numbers_of_epoch(numbers(uri, **options), 1))
    assert seen == whole
    assert again == whole
    resumed.load_state_dict(first.state_dict())
    assert list(numbers_of_epoch(resumed, 2)) == list(numbers_of_epoch(numbers(uri, **options), 2))


@pytest.mark.parametrize("begin", [lambda dataset: dataset.set_epoch(1), iter], ids=["set_epoch", "iter"])
def test_a_state_taken_before_the_first_row_of_a_pass_has_all_of_it_to_come(uri, begin):
    first = numbers(uri, shuffle=True)
    assert len(list(first)) == ROWS
    begin(first)
    resumed = numbers(uri, shuffle=True)

    resumed.load_state_dict(first.state_dict())

    assert list(resumed) == list(numbers_of_epoch(numbers(uri, shuffle=True), first.epoch))


def test_a_workers_state_is_of_its_batches_too(uri, monkeypatch):
    monkeypatch.setattr("laketag.training.passes._worker", lambda: Worker(1, 2, is_apart=True))
    state = numbers(uri, batch_size=4).state_dict()

    numbers(uri, batch_size=4).load_state_dict(state)

    with pytest.raises(TrainingError, match="the same batch_size"):
        numbers(uri, batch_size=6).load_state_dict(state)


def test_a_state_can_be_taken_again_of_a_pass_that_went_on(uri):
    first = numbers(uri, shuffle=True)
    rows = iter(first)
    taken = [next(rows) for _ in range(10)]
    second = numbers(uri, shuffle=True)
    second.load_state_dict(first.state_dict())
    rows = iter(second)
    taken += [next(rows) for _ in range(10)]
    third = numbers(uri, shuffle=True)
    third.load_state_dict(second.state_dict())

    taken += list(third)

    assert taken == list(numbers(uri, shuffle=True))


@pytest.mark.parametrize(
    "changed", [{"where": "n > 1"}, {"seed": 2}, {"shuffle": False}, {"rank": 1, "world_size": 2}], ids=str
)
def test_a_state_of_other_rows_is_refused(uri, changed):
    state = numbers(uri, shuffle=True).state_dict()

    with pytest.raises(TrainingError, match="the state is of a dataset with"):
        numbers(uri, **{"shuffle": True, **changed}).load_state_dict(state)


@pytest.mark.slow
def test_an_image_that_cannot_be_decoded_is_named(uri, tmp_path):
    write_tar(
        tmp_path / "in.tar", [("good.jpg", picture(1))], [("bad.jpg", b"no image")], [("none.txt", b"hm")]
    )
    laketag.import_([str(tmp_path / "in.tar")], str(tmp_path / "dataset"))
    rows = iter(laketag.torch_dataset(str(tmp_path / "dataset"), columns=["jpg"]))

    next(rows)

    with pytest.raises(TrainingError, match="column 'jpg' of row 'bad' cannot be decoded: not an image"):
        next(rows)
    [row] = laketag.torch_dataset(str(tmp_path / "dataset"), where="__key__ = 'none'", columns=["jpg", "txt"])
    assert row == {"jpg": None, "txt": "hm"}


def test_what_does_not_make_sense_is_refused_at_once(uri):
    with pytest.raises(ColumnError, match="nothing"):
        laketag.torch_dataset(uri, columns=["nothing"])
    with pytest.raises(BadSQL):
        laketag.torch_dataset(uri, where="nothing > 1")
    with pytest.raises(TrainingError, match="the seed is -1"):
        laketag.torch_dataset(uri, seed=-1)
    with pytest.raises(TrainingError, match="go together"):
        laketag.torch_dataset(uri, rank=1)
    with pytest.raises(TrainingError, match="choose tensor, pil, bytes"):
        laketag.torch_dataset(uri, decode="jpeg")
    with pytest.raises(TypeError, match="shuffel"):
        laketag.torch_dataset(uri, shuffel=True)  # type: ignore[call-arg]  # the mistake is what is tested


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_loader_is_refused_with_what_to_do(uri):
    loader = loader_of(numbers(uri), batch_size=None, num_workers=1, multiprocessing_context="fork")

    with pytest.raises(TrainingError, match='multiprocessing_context="spawn"'):
        list(loader)


@pytest.mark.slow
def test_rows_that_the_loader_batches_are_there_once(uri):
    import torch

    loader = loader_of(
        numbers(uri, shuffle=True), batch_size=4, num_workers=2, multiprocessing_context="forkserver"
    )

    assert sorted(torch.cat(list(loader)).tolist()) == list(range(ROWS))


@pytest.mark.slow
def test_workers_give_the_batches_in_the_order_of_one_process_and_outlive_an_epoch(uri):
    options: dict[str, Any] = {"shuffle": True, "batch_size": 4, "collate": as_list}
    dataset = numbers(uri, **options)
    loader = with_workers(dataset, start="spawn", persistent_workers=True)

    epochs = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        epochs.append(list(loader))

    assert epochs == [list(numbers_of_epoch(numbers(uri, **options), epoch)) for epoch in range(3)]


@pytest.mark.slow
def test_a_loader_with_workers_goes_on_in_mid_epoch_with_another_number_of_them(uri):
    options: dict[str, Any] = {"shuffle": True, "batch_size": 4, "collate": as_list}
    dataset = numbers(uri, **options)
    batches = iter(with_workers(dataset))
    taken = [next(batches) for _ in range(5)]
    with pytest.raises(TrainingError, match="only the loop knows"):
        dataset.state_dict()
    state = dataset.state_dict(batches=5)
    del batches

    resumed = numbers(uri, **options)
    resumed.load_state_dict(state)
    rest = list(with_workers(resumed, workers=1))
    again = list(resumed)

    whole = list(numbers(uri, **options))
    assert flat(taken + rest) == flat(whole)
    assert again == whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_own_loader_goes_on_in_mid_epoch(uri, workers):
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader() -> StatefulDataLoader[Any]:
        context = "forkserver" if workers else None
        dataset = numbers(uri, shuffle=True)
        return StatefulDataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=context)

    broken = loader()
    batches = iter(broken)
    taken = [next(batches).tolist() for _ in range(5)]
    state = broken.state_dict()
    whole = taken + [batch.tolist() for batch in batches]
    resumed = loader()
    resumed.load_state_dict(state)
    rest = [batch.tolist() for batch in resumed]

    assert taken + rest == whole
    assert sorted(flat(whole)) == list(range(ROWS))


@pytest.mark.slow
def test_two_ranks_with_workers_train_one_model_on_every_row_once(uri, tmp_path):
    import torch

    program = Path(__file__).parent.parent / "loops.py"
    ranks = [
        subprocess.Popen(
            [sys.executable, str(program), uri, str(rank), "2", str(tmp_path)],
            env=environment() | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]

    results = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2)]
    seen = results[0]["seen"] + results[1]["seen"]
    assert len(seen) == len(set(seen)) == ROWS - ROWS % 2
    assert set(seen) <= set(range(ROWS))
    assert results[0]["weights"] == results[1]["weights"]
    assert all(result["losses"][-1] < result["losses"][0] for result in results)
