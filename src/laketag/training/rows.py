"""The rows that training reads: by their places in a selection, in any order, with their images decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.errors import TrainingError
from laketag.lake.dataset import IMAGE_NAMES, is_image_like, open_dataset, require_columns
from laketag.lake.explaining import all_explained
from laketag.lake.links import require_links
from laketag.lake.location import Location
from laketag.lake.presence import KEY
from laketag.lake.query import default_columns
from laketag.lake.reading import check_filter, fetch, live_addresses, row_bytes
from laketag.lake.similar import is_vector
from laketag.taggers.decode import DecodeError, decode
from laketag.times import in_pythons_times
from laketag.training.epochs import Places

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

DECODED = ("tensor", "pil", "bytes")
"""What an image can be given as."""
_READ_BYTES = 32 << 20
_READ_ROWS = 256


@dataclass(frozen=True)
class Rows:
    """Selected rows of one version."""

    location: Location
    version: int
    where: str | None
    columns: tuple[str, ...]
    decode: str
    """One of `DECODED`."""

    @classmethod
    def of(
        cls,
        location: Location,
        at: int | str | None,
        where: str | None,
        columns: Sequence[str] | None,
        decode: str,
    ) -> Rows:
        """Pin a version, and make sure that it can be read as asked.

        Raises:
            DatasetNotFound: there is no dataset.
            ColumnError: there is no such column.
            BadSQL: Lance cannot run the filter.
            TrainingError: images cannot be given so.
            LinkBroken: rows point into a tar that is gone or was changed.
        """
        if decode not in DECODED:
            raise TrainingError(f"images cannot be given as {decode!r}; choose {', '.join(DECODED)}")
        dataset = open_dataset(location, at)
        require_columns(dataset.schema, columns or ())
        if where is not None:
            check_filter(dataset, where)
        require_links(location)
        names = (
            columns if columns is not None else [*_images(dataset.schema), *default_columns(dataset.schema)]
        )
        return cls(location, dataset.version, where, tuple(dict.fromkeys(names)), decode)


@dataclass
class Reader:
    """Reads rows; opened once in each process."""

    rows: Rows
    dataset: LanceDataset = field(init=False)

    def __post_init__(self) -> None:
        """Open the dataset."""
        self.dataset = open_dataset(self.rows.location, self.rows.version)

    @cached_property
    def addresses(self) -> npt.NDArray[np.int64]:
        """List where the selected rows lie, in the dataset's order."""
        with all_explained(self.rows.location.uri):
            return live_addresses(self.dataset, [], self.rows.where)

    def read(self, places: Places) -> Iterator[dict[str, Any]]:
        """Yield rows in the order asked for; the next are read while these are used.

        Raises:
            TrainingError: an image cannot be decoded.
            StoreError: the store fails, or the version was cleaned away.
        """
        step = max(1, min(_READ_ROWS, _READ_BYTES // max(1, row_bytes(self.dataset))))
        pieces = [places[at : at + step] for at in range(0, len(places), step)]
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._fetch, pieces[0]) if pieces else None
            for number in range(len(pieces)):
                assert following is not None
                table = following.result()
                following = (
                    ahead.submit(self._fetch, pieces[number + 1]) if number + 1 < len(pieces) else None
                )
                yield from self._given(table)

    def _fetch(self, places: Places) -> pa.Table:
        columns = [*self.rows.columns, *([KEY] if self._tells_key else [])]
        with all_explained(self.rows.location.uri):
            return fetch(self.dataset, self.addresses[places], columns)

    @cached_property
    def _tells_key(self) -> bool:
        return KEY not in self.rows.columns and KEY in self.dataset.schema.names

    def _given(self, table: pa.Table) -> Iterator[dict[str, Any]]:
        schema = self.dataset.schema
        images = [] if self.rows.decode == "bytes" else _images(schema.field(n) for n in self.rows.columns)
        vectors = {n: schema.field(n).type for n in self.rows.columns if is_vector(schema.field(n))}
        table = in_pythons_times(table)
        for at in range(table.num_rows):
            [values] = table.slice(at, 1).to_pylist()
            row = {name: values[name] for name in self.rows.columns}
            for name in images:
                row[name] = self._decoded(row[name], name, values)
            for name, kind in vectors.items():
                if row[name] is not None:
                    row[name] = np.array(row[name], kind.value_type.to_pandas_dtype())
            yield row

    def _decoded(self, data: bytes | None, name: str, row: Mapping[str, Any]) -> Any:
        if data is None:
            return None
        try:
            image = decode(data)
        except DecodeError as error:
            which = f"row {row[KEY]!r}" if KEY in row else "a row"
            raise TrainingError(
                f"column {name!r} of {which} cannot be decoded: {error}; leave such rows out by where="
                '"QUALITY_ERROR is null" or the like, or take bytes with decode="bytes"'
            ) from error
        if self.rows.decode == "pil":
            return image
        import torch

        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _images(fields: Any) -> list[str]:
    """Name the columns of images: by their names, or the only one with bytes."""
    binary = [each.name for each in fields if is_image_like(each)]
    named = [name for name in binary if name.lower().rpartition("_")[2] in IMAGE_NAMES]
    return named or (binary if len(binary) == 1 else [])
