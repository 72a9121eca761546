"""What may happen to a dataset, step by step, and what is held against the oracle after each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from laketag.errors import LaketagError
from laketag.lake import cleaning, evolving, history
from laketag.lake.query import Selection, query
from laketag.tagging import adopting, run
from laketag.tagging.settings import Rows, TagSettings
from world import looks, oracle, others
from world.looks import Look, Ran
from world.moments import Moment, Moments
from world.others import OF_LANCE, Others
from world.watched import WEATHER, Killed, Some

Step = tuple[str, Mapping[str, Any]]
"""A method of `World`, and what it is given."""
OF_ROWS = ("where", "limit", "retry_errors", "recompute")


class World(Others):
    """A dataset, everybody else, and laketag."""

    def __init__(self, uri: str, *, stable_row_ids: bool) -> None:
        """Make a dataset."""
        super().__init__(uri, stable_row_ids=stable_row_ids)
        self.images: dict[int, bytes] = {}
        """Every image that there ever was, by its digest."""
        self.counts: dict[str, int] = {}
        """How steps ended."""
        self.depth = 0
        """Runs that are at work."""
        self.look()

    def do(self, step: Step) -> None:
        """Take a step; afterwards all that is in the dataset must be right."""
        name, given = step
        with suppress(*(OF_LANCE if name in others.STEPS else ())):  # where there is nothing to do, say
            getattr(self, name)(**given)
        oracle.well_formed(self.look(), self.images)

    def look(self) -> Look:
        look = Look.at(self.uri)
        for row in look.rows.values():
            for column in looks.IMAGES:
                self.images[looks.digest_of(row[column])] = row[column]
        return look

    def weather(self, failing: Some | None = None, deadly: Some | None = None) -> None:
        WEATHER.failing, WEATHER.deadly = failing, deadly

    def rename(self, column: str, is_back: bool) -> None:
        names = (f"{column}_OLD", column) if is_back else (column, f"{column}_OLD")
        self.quietly(evolving.rename_column, *names)

    def drop(self, column: str) -> None:
        self.quietly(evolving.drop_column, column)

    def cast(self, column: str, kind: str) -> None:
        self.quietly(evolving.cast_column, column, kind)

    def derive(self, column: str, is_over: bool) -> None:
        """Make a column of labels by SQL, beside them or over them."""
        self.quietly(evolving.add_column, column if is_over else "derived", f"{column} + 1", replace=True)

    def restore_by_name(self, back: int) -> None:
        self.quietly(history.restore, max(1, self.dataset.version - back))
        self.has_moved()

    def name_version(self) -> None:
        self.quietly(history.versions, tag=f"version-{self.dataset.version}")

    def clean(self, is_all: bool, compact: bool) -> None:
        """Clean; all of it says that what is staged is given up."""
        older_than = timedelta(0) if is_all else cleaning.TWO_WEEKS
        self.quietly(cleaning.clean, older_than=older_than, yes=True, compact=compact)
        if compact:
            self.has_moved()
        if is_all:
            self.since = self.moved

    def quietly(self, function: Any, *given: Any, **options: Any) -> None:
        """Call a function of laketag's; what cannot be done is refused in one line."""
        try:
            function(self.uri, *given, **options)
        except LaketagError as error:
            self.count(f"{function.__name__}: {type(error).__name__}")
            if "\n" in str(error):
                raise oracle.Wrong(f"error: not one line: {error}") from error

    def ask(self, name: str) -> None:
        """Find the labelled, the failed and the open rows by filters, through whatever index there is."""
        look, one = self.look(), looks.job(name)
        states = look.states(one)
        error, digest = one.states
        filters = {
            f"{digest} is null": {n for n, state in states.items() if state[2] is None},
            f"{error} is not null": {n for n, state in states.items() if state[1] is not None},
            f"{one.tagger.columns.names[0]} > {1 << 30}": {
                n for n, s in states.items() if s[0] is not None and s[0] > 1 << 30
            },
        }
        for where, wanted in filters.items() if states else ():
            found = query(self.uri, selection=Selection(where=where, columns=("number",)))
            numbers = {n for batch in found for n in batch["number"].to_pylist()}
            if numbers != wanted:
                raise oracle.Wrong(f"query: {where} finds {sorted(numbers ^ wanted)} or leaves them out")

    def foreign(self, name: str, some: Some, moment: Moment | None = None) -> None:
        """Take over what another program has just made; where that breaks off, once more."""
        self.make_labels(name, some)
        self.adopt(name, moment)
        if self.look().holder(looks.job(name)) != "own":
            self.adopt(name)

    def adopt(self, name: str, moment: Moment | None = None) -> None:
        """Take over what another program, or another revision, has made."""
        one, seen = looks.job(name), [self.look()]
        moments = self.moments(moment, seen)
        report, error = None, None
        with moments.watching():
            try:
                settings = TagSettings(column="jpg", chunk_rows=5)
                report = adopting.adopt(
                    self.uri, *one.tagger.columns.names, one.tagger, settings=settings, engine=moments
                )
            except (LaketagError, Killed, KeyboardInterrupt) as raised:
                error = raised
        if moments.has_come and error is not None:
            self.bury()
        self.count(f"adopt: {type(error).__name__ if error else 'done'}")
        oracle.judge_adoption(one, seen, self.look(), report, error, has_come=moments.has_come)

    def slices(self, of: int, order: list[int], **asked: Any) -> None:
        """Run some parts, one after the other, and commit together what they have only staged."""
        self.way_out(asked["names"])
        for part in order:
            self.tag(slice=(part, of), **asked)
        if asked.get("stage_only"):
            self.tag(**{**asked, "stage_only": False, "commit_only": True})

    def way_out(self, names: tuple[str, ...]) -> None:
        """Where columns are another's, go a way that the refusal names."""
        for name in names:
            if self.look().holder(looks.job(name)) == "other":
                alike = [each for each in looks.TAGGERS if looks.job(each).name == looks.job(name).name]
                if any(self.look().holder(looks.job(each)) == "own" for each in alike):
                    self.adopt(name)
                else:
                    self.tag((name,), recompute=True, chunk_rows=8, max_error_rate=1.0)

    def freely(self, names: tuple[str, ...], **asked: Any) -> None:
        """Run taggers where nothing is in their way."""
        self.way_out(names)
        self.tag(names, **asked)

    def tag(
        self, names: tuple[str, ...], moment: Moment | None = None, column: str = "jpg", **asked: Any
    ) -> None:
        """Run taggers, and hold what came of it against the oracle."""
        jobs = tuple(looks.job(name, column) for name in names)
        given = WEATHER.given.copy()
        seen = [self.look()]
        moments = self.moments(moment, seen)
        self.depth += 1
        report, error = None, None
        with moments.watching():
            try:
                report = self.run(jobs, column, asked, moments)
            except (LaketagError, Killed, KeyboardInterrupt) as raised:
                error = raised
        if moments.has_come and error is not None:
            self.bury()
        self.depth -= 1
        fault = moment.what if moment and moments.has_come and isinstance(moment.what, str) else None
        self.count(f"tag: {type(error).__name__ if error else 'done'}{f' ({fault})' if fault else ''}")
        oracle.judge(
            Ran(
                asked={
                    key: value for key, value in asked.items() if value is not None and value is not False
                },
                jobs=jobs,
                looks=seen,
                after=self.look(),
                given=WEATHER.given - given,
                report=report,
                error=error,
                fault=fault,
                deaths=moments.deaths,
                is_inside=self.depth > 0,
                since=self.since,
            )
        )

    def run(self, jobs: tuple[Any, ...], column: str, asked: Mapping[str, Any], engine: Any) -> Any:
        rows = {key: value for key, value in asked.items() if key in OF_ROWS}
        if where := rows.get("where"):
            rows["where"] = self.some(where)
        settings = {key: value for key, value in asked.items() if key not in OF_ROWS}
        return run.tag(
            self.uri,
            [one.tagger for one in jobs],
            rows=Rows(**rows),
            settings=TagSettings(column=column, threads=1, **settings),
            engine=engine,
        )

    def moments(self, moment: Moment | None, seen: list[Look]) -> Moments:
        """Let something happen in the middle; after what others do there is another look to be seen."""

        def meddle(step: Any) -> None:
            name, given = step
            with suppress(*OF_LANCE):  # what loses a race is given up
                getattr(self, name)(**given)
            seen.append(self.look())

        return Moments(moment, meddle)

    def bury(self) -> None:
        """Let the leases of a dead process run out: this one, which lives on, plays many."""
        for lease in Path(self.uri, "_laketag").glob("*/lease/*"):
            lease.unlink()

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
