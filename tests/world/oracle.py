"""What must be true after a run of `tag`: told from what lies on the disk and from what the models saw.

The oracle plans nothing and follows nothing. It looks at the dataset and at the staged files before a run,
after each thing that others do in the middle of it, and after it. A row is *known* to a job where a label,
or a reason, of its present image is committed or staged. From that follows all that laketag promises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laketag import errors
from laketag.tagging.job import ADOPTED_FROM, Job
from world.looks import AGAIN, IMAGES, TAGGERS, Look, Ran, digest_of, image_of, is_unique, job, said_of
from world.watched import WEATHER, Killed, label_of


class Wrong(AssertionError):
    """A promise that is broken; its first word says which."""


def judge(ran: Ran) -> None:
    """Hold a run against all promises."""
    _what_is_others_stays(ran)
    for one in ran.jobs:
        _nothing_is_repeated(ran, one)
        _nothing_is_lost(ran, one)
        _what_came_is_right(ran, one)
    if ran.error is not None:
        _the_error_is_due(ran)
    else:
        for one in ran.jobs:
            _the_work_is_done(ran, one)
        _the_report_counts_right(ran)


def well_formed(look: Look, images: Mapping[int, bytes]) -> None:
    """Hold every state against the image that it was made from, by the image's digest."""
    for one in [job(name, column) for name in TAGGERS for column in IMAGES]:
        states = look.states(one)
        is_adopted = states and ADOPTED_FROM in said_of(look.schema.field(one.digest_column))
        for number, (label, reason, digest) in states.items():
            what = f"row {number} has {label}, {reason!r}"
            if digest is None:
                # A label that `adopt` found to be of another image stays, and its row is not computed.
                if reason is not None or not (label is None or is_adopted):
                    raise Wrong(f"state: {what}, and no digest")
            elif reason is None:
                if label != label_of(images[digest]):
                    raise Wrong(
                        f"label: {what} of {images[digest]!r}, of which it is {label_of(images[digest])}"
                    )
            elif label is not None or not _is_true(reason, images[digest]):
                raise Wrong(f"reason: {what} of {images[digest]!r}")


def _is_true(reason: str, image: bytes) -> bool:
    if reason.startswith("the worker died"):
        return image in WEATHER.killed
    why = "a bad image" if image.startswith(b"bad") else "not now"
    return image in WEATHER.failed and reason == f"ValueError: {why}"


def _what_is_others_stays(ran: Ran) -> None:
    """No row comes or goes; no other column, and no other job's staged work, is touched."""
    last = ran.looks[-1]
    own = [name for one in ran.jobs for name in one.columns.names]
    if last.without(own) != ran.after.without(own):
        raise Wrong("others: rows, or columns that are none of the run's, are not what they were")
    works = {(one.digest, ran.work) for one in ran.jobs}
    if ran.is_again:  # it makes what was staged before pointless
        works |= {(one.digest, "tagged") for one in ran.jobs}
    for key in {*last.staged, *ran.after.staged} - works:
        if last.staged.get(key) != ran.after.staged.get(key):
            raise Wrong(f"others: what is staged in {key} is not what it was")


def _nothing_is_repeated(ran: Ran, one: Job) -> None:
    """What is known is not predicted, unless that was asked for; nothing is predicted twice."""
    settled = set.intersection(*(ran.settled(look, one) for look in ran.looks))
    again = {n for n in settled & ran.predicted(one) if all(is_unique(look.rows[n]) for look in ran.looks)}
    if again:
        raise Wrong(f"repeated: {one.name} was given rows {sorted(again)} again")
    if not ran.deaths and not ran.fault:
        twice = [n for n in ran.predicted(one) if ran.times(n, one) > 1 and n in ran.stayed()]
        twice = [n for n in twice if is_unique(ran.looks[0].rows[n])]
        if twice:
            raise Wrong(f"repeated: {one.name} was given rows {sorted(twice)} twice in one run")


def _nothing_is_lost(ran: Ran, one: Job) -> None:
    """What was known stays known, and what is predicted becomes known; a good label stays good."""
    last, after = ran.looks[-1], ran.after
    now = after.known(one)
    again = after.waiting(one, AGAIN)
    asked = ran.predicted(one) | set(last.waiting(one, AGAIN)) if ran.is_again else set()
    same = {n for n, row in last.rows.items() if image_of(row, one) == image_of(after.rows[n], one)}
    for number, was_good in last.known(one, since=ran.since).items():
        if number in same and number not in now and not (number in asked and number in again):
            raise Wrong(f"lost: row {number} of {one.name} was known before, and is not now")
        if number in same and was_good and not now.get(number) and number not in asked:
            raise Wrong(f"lost: row {number} of {one.name} had a good label, and has none now")
    gone = [
        number
        for number in ran.predicted(one) & ran.stayed()
        if is_unique(after.rows[number]) and not _has_come(ran, one, number, now=now, again=again)
    ]
    if "commit_every" in ran.asked and len(ran.looks) > 1:
        return  # what was committed on the way others may have taken away again, by a restore
    # A crash costs the chunk that is staged and the one that is predicted.
    is_broken = ran.error is not None and bool(ran.fault or ran.deaths)
    most = 2 * ran.asked["chunk_rows"] * (1 + ran.deaths) if is_broken else 0
    if len(gone) > most:
        raise Wrong(f"lost: {one.name} was given rows {sorted(gone)}, and what it said is nowhere")


def _has_come(ran: Ran, one: Job, number: int, *, now: Mapping[int, bool], again: Mapping[int, bool]) -> bool:
    """Whether what was predicted of a row is there."""
    image = image_of(ran.after.rows[number], one)
    there = again if ran.is_again and number in again else now
    return number in there and (there[number] or bool(WEATHER.reason(image)) or image in WEATHER.killed)


def _what_came_is_right(ran: Ran, one: Job) -> None:
    """What a run commits is of the row's present image; nothing that is there goes."""
    before, after = ran.looks[-1].states(one), ran.after.states(one)
    for number, state in after.items():
        was = before.get(number, (None, None, None))
        if state == was:
            continue
        if state[2] is None:
            raise Wrong(f"lost: row {number} of {one.name} was {was}, and is not computed now")
        if state[2] != digest_of(image_of(ran.after.rows[number], one)):
            raise Wrong(f"stale: row {number} of {one.name} was {was} and became {state}, of another image")


def _the_work_is_done(ran: Ran, one: Job) -> None:
    """A run that ended well has done what it was asked for."""
    first, last, after, asked = ran.looks[0], ran.looks[-1], ran.after, ran.asked
    if not ran.is_again and ran.is_alone and first.holder(one) == "other":
        raise Wrong(f"mixed: columns of {one.name} are another's, and the run was not refused")
    if asked.get("stage_only") and after.version != last.version:
        raise Wrong("staged: a run that stages only has made a version")
    if asked.get("commit_only") and ran.predicted(one):
        raise Wrong("commit: a run that commits only has computed")
    done = after.committed(one)
    if asked.get("stage_only"):
        done = after.waiting(one, AGAIN) if ran.is_again else after.known(one)
    wanted = {n for n in ran.selected() & ran.stayed() if is_unique(first.rows[n])}
    if asked.get("commit_only"):
        wanted = set(first.waiting(one, ran.work, since=ran.since)) & ran.stayed()
    if "slice" in asked or "limit" in asked:
        wanted = set()
    # Others may have taken a label away that was there when the run began.
    taken = first.known(one).keys() - last.known(one).keys()
    missing = {n for n in wanted if n not in done} - taken
    if missing:
        raise Wrong(f"undone: rows {sorted(missing)} of {one.name} have no label after the run")
    if ran.is_again and not asked.get("commit_only"):
        kept = wanted - ran.predicted(one) - set(first.waiting(one, AGAIN))
        if kept:
            raise Wrong(f"undone: rows {sorted(kept)} of {one.name} were not computed again")
    if not ran.is_again and not asked.get("commit_only"):
        _as_many_as_were_asked_for(ran, one)


def _as_many_as_were_asked_for(ran: Ran, one: Job) -> None:
    if "limit" not in ran.asked or not ran.is_alone or len(ran.jobs) > 1 or "slice" in ran.asked:
        return
    done = ran.after.known(one) if ran.asked.get("stage_only") else ran.after.committed(one)
    # What is staged is no label yet, and counts among the rows that are asked for.
    lacking = [len(ran.selected() - each.keys()) for each in (ran.looks[0].committed(one), done)]
    retried = ran.predicted(one) if ran.asked.get("retry_errors") else set()
    if lacking[1] > lacking[0] - min(ran.asked["limit"], lacking[0]) + len(retried):
        raise Wrong(f"undone: of {lacking[0]} rows {lacking[1]} lack labels of {one.name} after the run")


def _the_report_counts_right(ran: Ran) -> None:
    """Counts of rows, where all rows can be told apart and nobody else was at work."""
    first, after, asked, report = ran.looks[0], ran.after, ran.asked, ran.report
    if not ran.is_alone or "slice" in asked or not all(map(is_unique, first.rows.values())):
        return
    if any(first.waiting(one, ran.work) != first.waiting(one, ran.work, since=ran.since) for one in ran.jobs):
        return  # what need not be found may be found
    predicted = {number for one in ran.jobs for number in ran.predicted(one)}
    waiting = {number for one in ran.jobs for number in first.waiting(one, ran.work)}
    counts = {"computed": (report.computed, len(predicted))}
    if "limit" not in asked:
        counts["rows"] = (report.rows, len(ran.selected()))
    if not asked.get("commit_only"):
        counts["computed and skipped"] = (report.computed + report.skipped, report.rows)
    if after.version == first.version:
        counts["committed"] = (report.staged, 0)
    elif "commit_every" not in asked or len(ran.jobs) == 1:  # else a row may come by several commits
        counts["staged"] = (report.staged, len(waiting - predicted))
        failed = _failed(ran)
        counts["failed"] = (report.failed, len(failed))
        most = asked.get("max_error_rate")
        if most is not None and "commit_every" not in asked and len(failed) > most * len(predicted | waiting):
            raise Wrong(f"errors: {len(failed)} of {len(predicted | waiting)} rows failed and were committed")
    for name, (told, counted) in counts.items():
        if told != counted:
            raise Wrong(f"report: {name} is {told}, and was {counted}")


def _failed(ran: Ran) -> set[int]:
    """Give the rows of which a run has committed that they failed."""
    return {
        number
        for one in ran.jobs
        for number in ran.predicted(one) | set(ran.looks[0].waiting(one, ran.work))
        if ran.after.states(one)[number][1] is not None
    }


def _the_error_is_due(ran: Ran) -> None:
    """A run that ends early has a reason, and says it in one line of laketag's own."""
    error, looks = ran.error, [*ran.looks, ran.after]
    text = str(error)
    is_other = any(look.holder(one) == "other" for look in looks for one in ran.jobs)
    waiting = [look.waiting(one, ran.work) for look in looks for one in ran.jobs]
    is_left = any(ran.after.waiting(one, ran.work) for one in ran.jobs)
    due = {
        Killed: ran.fault in ("kill", "kill a worker"),
        KeyboardInterrupt: ran.fault == "stop",
        errors.Interrupted: ran.fault == "stop",
        errors.StoreError: ran.fault == "full",
        errors.JobRefused: is_other
        or ran.is_inside
        or (ran.asked.get("commit_only") and ("slice" in ran.asked or not all(waiting))),
        errors.TooManyErrors: _too_many_failed(ran),
        errors.CommitError: ran.fault in ("full", "unheard") or is_other or not is_left,
        errors.WorkerLost: ran.deaths > 0,
    }
    if not due.get(type(error)):
        raise Wrong(f"error: {type(error).__name__}: {text}") from error
    if isinstance(error, errors.LaketagError) and (not text or "\n" in text):
        raise Wrong(f"error: not one line: {text!r}")


def _too_many_failed(ran: Ran) -> bool:
    """Whether more failed than may, of all that is staged: a run that is refused leaves it there."""
    after, most = ran.after, ran.asked.get("max_error_rate")
    staged = [after.waiting(one, ran.work, since=ran.since) for one in ran.jobs]
    rows = {number for each in staged for number in each}
    failed = {number for each in staged for number, is_good in each.items() if not is_good}
    if not ran.is_alone or "slice" in ran.asked or "commit_every" in ran.asked:
        return any(
            not each.is_good for one in ran.jobs for each in after.staged.get((one.digest, ran.work), ())
        )
    if most is None:
        has_labels = not ran.is_again and any(any(after.committed(one).values()) for one in ran.jobs)
        return failed == rows and not has_labels
    return len(failed) > most * len(rows)


def judge_adoption(
    one: Job, looks: list[Look], after: Look, report: Any, error: BaseException | None, *, has_come: bool
) -> None:
    """Hold an adoption against what `adopt` promises: labels stay, and what was known stays known."""
    first, last = looks[0], looks[-1]
    if last.without(one.states) != after.without(one.states):
        raise Wrong("adopt: labels, or other columns, are not what they were")
    if error is not None:
        if not has_come and not isinstance(error, errors.JobRefused | errors.ColumnError):
            raise Wrong(f"error: {type(error).__name__}: {error}") from error
        if isinstance(error, errors.LaketagError) and "\n" in str(error):
            raise Wrong(f"error: not one line: {error}") from error
        return
    now = after.committed(one)
    labelled = {n for n, (_, _, digest) in after.states(one).items() if digest is not None}
    if not has_come and (report.labelled, report.missing) != (len(labelled), len(after.rows) - len(labelled)):
        raise Wrong(f"adopt: {len(labelled)} rows were taken over, not {report.labelled}")
    if labelled - now.keys():
        raise Wrong(f"stale: rows {sorted(labelled - now.keys())} were adopted, and are of other images")
    for before in [job(name) for name in TAGGERS if TAGGERS[name].name == one.name]:
        for number, is_good in first.committed(before).items():
            # Rows that others move meanwhile are left for the next `tag`, as docs/evolve.md says.
            if len(looks) == 1 and now.get(number) != is_good:
                raise Wrong(f"adopt: row {number} was known, and is not now")
