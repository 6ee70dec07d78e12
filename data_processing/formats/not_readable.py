"""How the parts of a reader say that something is left out. The readers make records of it."""


class NotReadableError(ValueError):
    """Why a document is not read: `reason` as in `report.REASONS`, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
