"""What training does with rows, where workers and other ranks can import it; and a small training itself.

python loops.py URI RANK WORLD_SIZE FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import laketag


def number_of(row: dict[str, Any]) -> int:
    """Keep of a row what tells which it is."""
    number: int = row["n"]
    return number


def as_list(rows: list[int]) -> list[int]:
    """Collate nothing."""
    return rows


def train(uri: str, rank: int, world_size: int, folder: Path) -> None:
    """Train one epoch of a small model as one rank of several, and write down which rows it saw."""
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader

    meet = f"file://{folder}/meet"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=world_size)
    dataset = laketag.torch_dataset(
        uri, columns=["jpg", "n", "BRIGHT"], shuffle=True, seed=7, even=True, batch_size=4
    )
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )
    model = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    seen, losses = [], []
    for batch in loader:
        found = model(batch["jpg"].float() / 255).squeeze(1)
        loss = nn.functional.mse_loss(found, batch["BRIGHT"].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += batch["n"].tolist()
        losses.append(loss.item())
    weights = torch.cat([each.flatten() for each in network.parameters()]).tolist()
    torch.save({"seen": seen, "losses": losses, "weights": weights}, folder / f"rank-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
