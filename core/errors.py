"""What a user can meet when something is wrong. Each error knows its number and its exit code (sysexits)."""


class BloomeryError(ValueError):
    """A mistake or a condition that the user can act on; printed as one line, without a traceback.

    The message says which setting or file and line, what was found, what was expected, what to do.
    """

    code = "E000"
    exit_code = 70


class UsageError(BloomeryError):
    """The command line does not make sense."""

    code = "E001"
    exit_code = 2


class ConfigError(BloomeryError):
    """A setting is unknown, out of range or contradicts another."""

    code = "E010"
    exit_code = 78


class StaleArtifactError(ConfigError):
    """A finished training stage no longer matches the settings or inputs that it was made from."""

    code = "E011"


class MismatchError(ConfigError):
    """Two artifacts that do not belong together, such as a checkpoint and another tokenizer."""

    code = "E012"


class DeviceError(ConfigError):
    """The device that was asked for is not there."""

    code = "E013"


class MissingDependencyError(ConfigError):
    """An optional package that a setting needs is not installed."""

    code = "E014"


class DataError(BloomeryError):
    """Input that cannot be used: missing, empty, malformed."""

    code = "E020"
    exit_code = 65


class VocabularyTooLargeError(DataError):
    """The corpus does not hold enough distinct pieces; `largest` is the largest size that it feeds."""

    code = "E021"

    def __init__(self, message: str, largest: int) -> None:
        super().__init__(message)
        self.largest = largest


class CorruptArtifactError(DataError):
    """A file does not have the size or the sha256 that its manifest recorded."""

    code = "E022"


class LockedError(BloomeryError):
    """Another process is working in the run directory."""

    code = "E030"
    exit_code = 73


class DiskError(BloomeryError):
    """The disk is full, read-only or failing."""

    code = "E031"
    exit_code = 74


class NotWritableError(DiskError):
    """A place where results are to go cannot be written to, whatever room there is."""

    code = "E036"
    exit_code = 73


class AddressError(BloomeryError):
    """A server cannot take connections at the address, or with the certificate, that it was given."""

    code = "E037"
    exit_code = 73


class WorkerDiedError(BloomeryError):
    """A worker process ended by itself, most often for want of memory."""

    code = "E032"
    exit_code = 70


class PeerLostError(BloomeryError):
    """Another process of a run with several ended or hangs."""

    code = "E034"
    exit_code = 70


class MainProcessError(BloomeryError):
    """The main one of several processes failed, with `exit_code`; it has said so itself."""

    code = "E035"

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UnreachableError(BloomeryError):
    """A service on the network does not answer, or answers that it cannot now."""

    code = "E033"
    exit_code = 74


class Preempted(BloomeryError):  # noqa: N818 - a state, not a mistake: saved and resumable
    """A signal asked for an end; everything is saved and the same command goes on from here."""

    code = "E040"
    exit_code = 75
