"""Everything that laketag raises on purpose.

    LaketagError
    ├── WrongUsage                what was asked for makes no sense, whatever the dataset holds
    ├── DatasetError              the dataset
    │   ├── DatasetNotFound       no dataset at this URI
    │   ├── ColumnError           a column that is missing, ambiguous, clashing or of the wrong type
    │   ├── BadSQL                a filter or query that Lance cannot run
    │   ├── LinkBroken            a tar that rows point into is gone, or was changed
    │   ├── StoreError            a store that refuses, or does not answer; a disk or a file likewise
    │   └── CommitError           a version that could not be made; the old one stands
    ├── ShardError                the tar shards
    │   ├── ShardNotFound         an argument that names no shard
    │   └── ShardRefused          a source that is not read on purpose (pipe:), or a bad option
    ├── TaggerError               the taggers
    │   ├── UnknownTagger         a name that is neither built in nor importable
    │   ├── BadTagger             a tagger whose definition, parameters or weights are wrong
    │   └── DeviceLost            a device that refuses all further work of its process
    ├── EngineError               where tasks run
    │   ├── WorkerLost            a worker that died more often than the engine retries
    │   └── TaskFailed            a task that raised in its worker
    ├── JobError                  a run of the line
    │   ├── JobRefused            what was asked for would mix, overwrite or lose labels
    │   └── TooManyErrors         more rows failed than --max-error-rate allows
    ├── TrainingError             rows for training cannot be given as asked
    ├── MissingExtra              an optional package that is not installed
    └── Interrupted               stopped by a signal, with the work so far staged

Every message says what, with which value, and what to do next, on one line.
"""


class LaketagError(Exception):
    """An error of laketag's own; its text is one line for the user."""


class WrongUsage(LaketagError):
    """What was asked for makes no sense, whatever the dataset holds."""


class DatasetError(LaketagError):
    """The dataset cannot be used as asked."""


class DatasetNotFound(DatasetError):
    """There is no Lance dataset at the URI."""


class ColumnError(DatasetError):
    """A column is missing, ambiguous, clashing or of the wrong type."""


class BadSQL(DatasetError):
    """A filter or a query that Lance cannot run."""


class LinkBroken(DatasetError):
    """A tar that rows point into is gone, or was changed."""


class StoreError(DatasetError):
    """The store, or the disk, refuses, or does not answer; staged work is kept."""


class CommitError(DatasetError):
    """No version could be made; the old one stands and staged work is kept."""


class ShardError(LaketagError):
    """The shards cannot be used as asked."""


class ShardNotFound(ShardError):
    """An argument names no shard."""


class ShardRefused(ShardError):
    """A source that is not read on purpose."""


class TaggerError(LaketagError):
    """A tagger cannot be used as asked."""


class UnknownTagger(TaggerError):
    """A name that is neither built in nor importable."""


class BadTagger(TaggerError):
    """A tagger whose definition, parameters or weights are wrong."""


class DeviceLost(TaggerError):
    """A device refuses all further work of this process; a new process may use it again."""


class EngineError(LaketagError):
    """The engine cannot do its work."""


class WorkerLost(EngineError):
    """A worker died more often than the engine retries a task."""


class TaskFailed(EngineError):
    """A task raised in its worker."""


class JobError(LaketagError):
    """A run of the line cannot go on."""


class JobRefused(JobError):
    """What was asked for would mix, overwrite or lose labels."""


class TooManyErrors(JobError):
    """More rows failed than the run allows; nothing was committed."""


class TrainingError(LaketagError):
    """Rows for training cannot be given as asked."""


class MissingExtra(LaketagError):
    """An optional package is not installed."""


class Interrupted(LaketagError):
    """Stopped by a signal; the work so far is staged."""
